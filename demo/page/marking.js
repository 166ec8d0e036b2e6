// Drawing on the picture. Marks are sent one after the other, in pixels of the picture; those made meanwhile wait here.
const SVG = 'http://www.w3.org/2000/svg';
const waiting = [];
let busy = false, drawing = null, kept = '', cross = null;

const tool = () => document.querySelector('#tools input[name=tool]:checked')?.value ?? 'click';
const subtracts = event => event.button === 2 || document.querySelector('#tools input[name=subtract]')?.checked === true;
const stage = () => element.querySelector('.marking .stage');
const size = () => [Number(stage().closest('.viewer').style.getPropertyValue('--w')), Number(stage().closest('.viewer').style.getPropertyValue('--h'))];

function pixel(event) {
  const box = stage().getBoundingClientRect(), [w, h] = size();
  const within = (value, most) => Math.min(Math.max(value, 0), most - 0.01);
  return [within((event.clientX - box.left) / box.width * w, w), within((event.clientY - box.top) / box.height * h, h)];
}

function brushWidth() {  // in pixels of the picture
  return Number(document.querySelector('#tools input[name=width]')?.value ?? 8) * size()[0] / stage().clientWidth;
}

function send(mark) {
  waiting.push(mark);
  next();
}

function next() {
  if (busy || !waiting.length) return;
  busy = true;
  trigger('mark', waiting.shift());
  setTimeout(() => { busy = false; next(); }, 20000);  // where no answer comes, the next one is tried
}

function sketch(points, kind, positive) {
  const marks = element.querySelector('.marks');
  marks.querySelector('.sketch')?.remove();
  const part = document.createElementNS(SVG, kind === 'box' ? 'rect' : 'polyline');
  part.setAttribute('class', 'sketch');
  part.setAttribute('fill', 'none');
  part.setAttribute('stroke', positive ? '#fff' : '#d0021b');
  if (kind === 'box') {
    const [[x0, y0], [x1, y1]] = [points[0], points.at(-1)];
    part.setAttribute('x', Math.min(x0, x1));
    part.setAttribute('y', Math.min(y0, y1));
    part.setAttribute('width', Math.abs(x1 - x0));
    part.setAttribute('height', Math.abs(y1 - y0));
    part.setAttribute('stroke-width', 2);
    part.setAttribute('vector-effect', 'non-scaling-stroke');
  } else {
    part.setAttribute('points', points.map(point => point.join(',')).join(' '));
    part.setAttribute('stroke-width', brushWidth());
    part.setAttribute('stroke-linecap', 'round');
    part.setAttribute('stroke-opacity', .7);
  }
  marks.append(part);
}

element.addEventListener('contextmenu', event => { if (event.target.closest('.marking .stage')) event.preventDefault(); });
element.addEventListener('pointerdown', event => {
  if (!event.target.closest('.marking .stage') || event.button === 1) return;
  event.preventDefault();
  stage().focus({ preventScroll: true });
  const kind = tool(), positive = !subtracts(event), points = [pixel(event)];
  if (kind === 'click') return send({ kind, points, positive, width: 1 });
  drawing = { kind, positive, points };
  stage().setPointerCapture(event.pointerId);
});
element.addEventListener('pointermove', event => {
  if (!drawing) return;
  const point = pixel(event), last = drawing.points.at(-1), far = size()[0] / 400;
  if (drawing.points.length < 2000 && Math.hypot(point[0] - last[0], point[1] - last[1]) > far) drawing.points.push(point);
  sketch([...drawing.points, point], drawing.kind, drawing.positive);
});
element.addEventListener('pointerup', event => {
  if (!drawing) return;
  const { kind, positive, points } = drawing, end = pixel(event);
  drawing = null;
  if (kind === 'brush') return send({ kind, points: [...points, end], positive, width: brushWidth() });
  const [x, y] = points[0];
  if (Math.abs(end[0] - x) >= 1 && Math.abs(end[1] - y) >= 1) send({ kind, points: [[x, y], end], positive, width: 1 });
  else element.querySelector('.sketch')?.remove();
});
element.addEventListener('pointercancel', () => { drawing = null; element.querySelector('.sketch')?.remove(); });
element.addEventListener('click', event => {
  const entry = event.target.closest('[data-object]');
  if (entry) trigger('select_object', { object: Number(entry.dataset.object) });
});
element.addEventListener('keydown', event => {
  if (event.target !== stage()) return;
  const [w, h] = size(), step = Math.max(w, h) / (event.shiftKey ? 100 : 25);
  const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
  cross ??= [w / 2, h / 2];
  if (move) cross = [Math.min(Math.max(cross[0] + move[0], 0), w - 1), Math.min(Math.max(cross[1] + move[1], 0), h - 1)];
  else if (event.key === 'Enter') send({ kind: 'click', points: [cross], positive: true, width: 1 });
  else if (event.key === 'Delete' || event.key === 'Backspace') send({ kind: 'click', points: [cross], positive: false, width: 1 });
  else return;
  event.preventDefault();
  showCross();
});

function showCross() {
  if (!cross || !stage()) return;
  const marks = element.querySelector('.marks'), arm = Math.max(...size()) / 40;
  marks.querySelector('.cross')?.remove();
  const part = document.createElementNS(SVG, 'path');
  part.setAttribute('class', 'cross');
  part.setAttribute('d', `M${cross[0] - arm},${cross[1]}h${2 * arm}M${cross[0]},${cross[1] - arm}v${2 * arm}`);
  marks.append(part);
}

watch('value', () => {
  const here = stage();
  const ground = here?.querySelector('.ground');
  if (ground?.hasAttribute('src')) {
    kept = ground.src;  // a new picture, which is sent once
    cross = null;
    waiting.length = 0;
  } else if (ground) {
    ground.src = kept;
    showCross();
  }
  settle();
  busy = false;
  next();
});
