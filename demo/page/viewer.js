// What visitors do with an answer: how strongly regions are shown, which one stands out, PNG and JSON to take along.
// Runs once for each gr.HTML that shows pictures; `element` is its root, whose content changes with every answer.
const shown = { opacity: 60, tags: true };

function settle() {
  for (const viewer of element.querySelectorAll('.viewer')) {
    viewer.style.setProperty('--opacity', shown.opacity / 100);
    viewer.classList.toggle('untagged', !shown.tags);
    viewer.querySelectorAll('[data-do=opacity]').forEach(input => { input.value = shown.opacity; });
    viewer.querySelectorAll('[data-do=tags]').forEach(input => { input.checked = shown.tags; });
    place(viewer.querySelector('.stage'));
    const ground = viewer.querySelector('.ground');
    if (ground && !ground.complete) ground.addEventListener('load', () => place(viewer.querySelector('.stage')), { once: true });
  }
}

// Labels that would lie on each other move down or up, and none leaves the picture.
function place(stage) {
  if (!stage || !stage.clientWidth) return;
  const taken = [];
  for (const tag of stage.querySelectorAll('.tag')) {
    tag.style.transform = 'translate(-50%, -50%)';
    const width = tag.offsetWidth, height = tag.offsetHeight;
    const x = Math.min(Math.max(parseFloat(tag.style.left) / 100 * stage.clientWidth, width / 2), stage.clientWidth - width / 2);
    const wanted = parseFloat(tag.style.top) / 100 * stage.clientHeight;
    const inside = y => Math.min(Math.max(y, height / 2), stage.clientHeight - height / 2);
    const steps = [...Array(24).keys()].map(i => (i % 2 ? 1 : -1) * Math.ceil(i / 2) * (height + 1) / 2);
    const free = y => taken.every(b => Math.abs(b.x - x) >= (b.width + width) / 2 || Math.abs(b.y - y) >= (b.height + height) / 2);
    const y = steps.map(step => inside(wanted + step)).find(free) ?? inside(wanted);
    taken.push({ x, y, width, height });
    tag.style.transform = `translate(calc(-50% + ${x - parseFloat(tag.style.left) / 100 * stage.clientWidth}px), calc(-50% + ${y - wanted}px))`;
  }
}

function standOut(viewer, number) {
  viewer.classList.toggle('chosen', number !== null);
  viewer.querySelectorAll('[data-region]').forEach(part => part.classList.toggle('active', part.dataset.region === number));
}

// The topmost region under the pointer: its layer is drawn into one pixel.
function regionAt(stage, event) {
  const ground = stage.querySelector('.ground'), box = ground.getBoundingClientRect();
  const pixel = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const x = (event.clientX - box.left) / box.width * ground.naturalWidth, y = (event.clientY - box.top) / box.height * ground.naturalHeight;
  for (const layer of [...stage.querySelectorAll('.layer')].reverse()) {
    pixel.clearRect(0, 0, 1, 1);
    pixel.drawImage(layer, x, y, 1, 1, 0, 0, 1, 1);
    if (pixel.getImageData(0, 0, 1, 1).data[3]) return layer.dataset.region;
  }
  return null;
}

function drawn(viewer) {
  const stage = viewer.querySelector('.stage'), ground = stage.querySelector('.ground');
  const canvas = document.createElement('canvas');
  const scale = Math.max(1, Math.ceil(640 / ground.naturalWidth));  // so that labels can be read
  canvas.width = ground.naturalWidth * scale;
  canvas.height = ground.naturalHeight * scale;
  const brush = canvas.getContext('2d'), ratio = canvas.width / stage.clientWidth;
  brush.drawImage(ground, 0, 0, canvas.width, canvas.height);
  brush.imageSmoothingEnabled = false;
  brush.globalAlpha = shown.opacity / 100;
  stage.querySelectorAll('.layer').forEach(layer => brush.drawImage(layer, 0, 0, canvas.width, canvas.height));
  brush.globalAlpha = 1;
  const from = stage.getBoundingClientRect();
  for (const tag of shown.tags ? stage.querySelectorAll('.tag') : []) {
    const box = tag.getBoundingClientRect();
    brush.fillStyle = 'rgba(16, 18, 24, .85)';
    brush.fillRect((box.left - from.left) * ratio, (box.top - from.top) * ratio, box.width * ratio, box.height * ratio);
    brush.fillStyle = 'white';
    brush.font = `600 ${parseFloat(getComputedStyle(tag).fontSize) * ratio}px system-ui, sans-serif`;
    brush.textAlign = 'center';
    brush.textBaseline = 'middle';
    brush.fillText(tag.textContent, (box.left + box.width / 2 - from.left) * ratio, (box.top + box.height / 2 - from.top) * ratio);
  }
  return canvas;
}

function save(address, name) {
  const link = document.createElement('a');
  link.href = address;
  link.download = name;
  link.click();
}

element.addEventListener('input', event => {
  const what = event.target.dataset.do;
  if (what === 'opacity') shown.opacity = Number(event.target.value);
  if (what === 'tags') shown.tags = event.target.checked;
  if (what) settle();
});
element.addEventListener('click', async event => {
  const button = event.target.closest('[data-do]');
  if (button?.dataset.do === 'save') save(drawn(button.closest('.viewer')).toDataURL('image/png'), 'regions.png');
  if (button?.dataset.do === 'copy') {
    await navigator.clipboard.writeText(button.parentElement.querySelector('pre').textContent);
    button.textContent = 'Copied';
  }
});
for (const kind of ['pointerover', 'focusin']) {
  element.addEventListener(kind, event => {
    const entry = event.target.closest('.legend [data-region]');
    if (entry) standOut(entry.closest('.viewer'), entry.dataset.region);
  });
}
for (const kind of ['pointerout', 'focusout']) {
  element.addEventListener(kind, event => {
    const entry = event.target.closest('.legend [data-region]');
    if (entry) standOut(entry.closest('.viewer'), null);
  });
}
element.addEventListener('pointermove', event => {
  const stage = event.target.closest('.viewer:not(.marking) .stage');
  if (stage) standOut(stage.closest('.viewer'), regionAt(stage, event));
});
element.addEventListener('pointerleave', () => element.querySelectorAll('.viewer').forEach(viewer => standOut(viewer, null)));
new ResizeObserver(() => element.querySelectorAll('.stage').forEach(place)).observe(element);
watch('value', settle);
settle();
