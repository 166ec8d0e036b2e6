"""The picture that visitors draw on, as HTML, and its tools."""

from __future__ import annotations

from demo.page import viewer
from demo.page.replies import Region
from demo.page.rounds import Mark, Marked, object_colours

EMPTY = viewer.empty("Choose a picture, then click on what you mean.")
TOOLS = """
<fieldset class="tools"><legend>Draw with</legend>
<label><input type="radio" name="tool" value="click" checked> Click</label>
<label><input type="radio" name="tool" value="brush"> Brush</label>
<label><input type="radio" name="tool" value="box"> Box</label>
<label><input type="checkbox" name="subtract"> Subtract</label>
<label>Brush width <input type="range" name="width" min="2" max="40" value="8"></label>
</fieldset>
<div class="tools" role="group" aria-label="Objects">
<button type="button" data-do="new_object">New object</button>
<button type="button" data-do="undo">Undo</button>
<button type="button" data-do="reset">Begin again</button>
<button type="button" data-kind="coco">COCO JSON</button>
<button type="button" data-kind="polygons">Polygons</button>
</div>
<p class="hint">The left button adds, the right one takes away. By keyboard, on the picture: arrows move a cross, Enter adds,
Delete takes away.</p>
"""
TOOLS_SCRIPT = """
element.addEventListener('click', event => {
  const button = event.target.closest('button');
  if (button?.dataset.do === 'new_object') trigger('new_object');
  if (button?.dataset.do === 'undo') trigger('undo');
  if (button?.dataset.do === 'reset') trigger('reset');
  if (button?.dataset.kind) trigger('export', { kind: button.dataset.kind });
});
"""


def fresh(marked: Marked) -> str:
    """The board of a new picture, which marking.js keeps for the rounds to come."""
    return _board(marked, (), f' src="{viewer.jpeg(marked.picture.image)}"')


def after(marked: Marked, regions: tuple[Region, ...]) -> str:
    """The board after a round, without the picture."""
    return _board(marked, regions, "")


def _board(marked: Marked, regions: tuple[Region, ...], source: str) -> str:
    image, session = marked.picture.image, marked.session
    marks = "".join(_drawn(mark, max(image.size)) for mark in marked.history[-1])
    found = [region for region in regions if region.mask.any()]
    tags = "".join(viewer.tag(number, region) for number, region in enumerate(regions) if region.mask.any())
    return (
        f'<section class="answer" aria-label="Marked objects">{viewer.headline(_headline(len(found)))}'
        f'<figure class="viewer marking" style="--w:{image.width};--h:{image.height}">'
        '<div class="stage" tabindex="0" role="application" '
        'aria-label="Picture: arrows move the cross, Enter adds, Delete takes away">'
        f'<img class="ground"{source} alt="The picture to mark">{viewer.layers(regions)}{tags}'
        f'<svg class="marks" viewBox="0 0 {image.width} {image.height}" aria-hidden="true">{marks}</svg></div>'
        f"<figcaption>{viewer.tools()}{_objects(session.objects, session.current, regions)}</figcaption></figure></section>"
    )


def _headline(number: int) -> str:
    if not number:
        return "Click on what you mean."
    return f"{number} object{'s' if number > 1 else ''} marked"


def _objects(count: int, current: int, regions: tuple[Region, ...]) -> str:
    """A button an object, the pressed one being the one that marks belong to."""
    rows = []
    for number, colour in enumerate(object_colours()[:count]):
        score = f" <small>{regions[number].score:.2f}</small>" if number < len(regions) else ""
        pressed = "true" if number == current else "false"
        rows.append(
            f'<li><button type="button" data-object="{number}" data-region="{number}" aria-pressed="{pressed}">'
            f'<i style="background:{colour}"></i>object {number + 1}{score}</button></li>'
        )
    return f'<ul class="legend" aria-label="Objects">{"".join(rows)}</ul>'


def _drawn(mark: Mark, side: int) -> str:
    """A mark as SVG, in pixels of the picture."""
    colour = object_colours()[mark.owner] if mark.positive else "#d0021b"
    if mark.kind == "click":
        x, y = mark.points[0]
        return (
            f'<circle cx="{x:g}" cy="{y:g}" r="{side / 110:.2f}" fill="{colour}" stroke="#fff" '
            f'stroke-width="{side / 400:.2f}"/>'
        )
    if mark.kind == "brush":
        points = " ".join(f"{x:g},{y:g}" for x, y in mark.points)
        return (
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{mark.width:g}" '
            'stroke-linecap="round" stroke-linejoin="round" opacity=".7"/>'
        )
    (x0, y0), (x1, y1) = mark.points
    return (
        f'<rect x="{min(x0, x1):g}" y="{min(y0, y1):g}" width="{abs(x1 - x0):g}" height="{abs(y1 - y0):g}" fill="none" '
        f'stroke="{colour}" stroke-width="2" vector-effect="non-scaling-stroke" stroke-dasharray="6 3"/>'
    )
