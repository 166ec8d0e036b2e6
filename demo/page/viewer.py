"""The picture with its regions, as HTML: masks in layers, labels, a legend, and what viewer.js lets visitors do with them.

Every word in it is escaped: they are visitors', or a network's.
"""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo.page.replies import Region, Reply
from demo.page.uploads import shown

EDGE = 0.45  # brightness of a region's border against its inside


def answer(reply: Reply) -> str:
    """A whole answer: headline, picture or bars, and JSON."""
    parts = [headline(reply.headline)]
    if reply.picture is not None:
        parts.append(picture(reply.picture, reply.regions))
    if reply.scores:
        parts.append(bars(reply.scores))
    parts.append(
        '<details class="json"><summary>JSON</summary><button type="button" data-do="copy">Copy</button>'
        f'<pre tabindex="0" aria-label="The answer as JSON">{escape(reply.json)}</pre></details>'
    )
    return f'<section class="answer" aria-label="Answer">{"".join(parts)}</section>'


def empty(waiting: str) -> str:
    """What stands in an answer's place before there is one."""
    return f'<section class="answer" aria-label="Answer">{headline(waiting, "headline empty")}</section>'


def headline(text: str, look: str = "headline") -> str:
    """What is said first, to screen readers as soon as it is there."""
    return f'<div role="status"><h2 class="{look}">{escape(text)}</h2></div>'


def picture(image: Image.Image, regions: tuple[Region, ...]) -> str:
    """The picture, its regions over it, their legend, and how strongly they are shown."""
    image = shown(image)
    regions = tuple(replace(region, mask=_small(region.mask, image.size)) for region in regions)
    numbered = list(enumerate(regions))
    tags = "".join(tag(number, region) for number, region in numbered)
    legend = "".join(_entry(number, region) for number, region in numbered)
    return (
        f'<figure class="viewer" style="--w:{image.width};--h:{image.height}"><div class="stage">'
        f'<img class="ground" src="{jpeg(image)}" alt="The picture that was asked about">{layers(regions)}{tags}</div>'
        f'<figcaption>{tools() if regions else ""}<ul class="legend" aria-label="Regions">{legend}</ul></figcaption></figure>'
    )


def _small(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask (H, W) at another width and height."""
    if mask.shape[::-1] == size:
        return mask
    return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))


def tools() -> str:
    """How strongly regions are shown, and how to take the picture along."""
    return (
        '<div class="tools"><label>Opacity <input type="range" data-do="opacity" min="0" max="100" value="60"></label>'
        '<label><input type="checkbox" data-do="tags" checked> Labels</label>'
        '<button type="button" data-do="save">Save as PNG</button></div>'
    )


def layers(regions: tuple[Region, ...]) -> str:
    """A transparent picture for each region; the first lies on top."""
    numbered = reversed(list(enumerate(regions)))
    return "".join(
        f'<img class="layer" data-region="{number}" src="{layer(region.mask, region.colour)}" alt="">'
        for number, region in numbered
    )


def bars(scores: tuple[tuple[str, float], ...]) -> str:
    """How well texts fit, a bar each."""
    rows = "".join(
        f'<li><span>{escape(text)}</span><meter min="0" max="1" value="{share:.3f}" aria-label="{escape(text)}"></meter>'
        f"<b>{share:.0%}</b></li>"
        for text, share in scores
    )
    return f'<ol class="bars" aria-label="How well they fit">{rows}</ol>'


def layer(mask: NDArray[np.bool_], colour: str) -> str:
    """A mask (H, W) as a transparent PNG with a darker border, in a data address."""
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    image = Image.fromarray(mask.astype(np.uint8) + (mask & ~inner))
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    image.putpalette([0, 0, 0, *rgb, *(round(EDGE * channel) for channel in rgb)])
    data = io.BytesIO()
    image.save(data, "PNG", transparency=0, bits=2, compress_level=3)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


def jpeg(image: Image.Image) -> str:
    """A picture in a data address."""
    data = io.BytesIO()
    image.convert("RGB").save(data, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


def tag(number: int, region: Region) -> str:
    """A region's label, where it is deepest."""
    x, y = deepest(region.mask)
    height, width = region.mask.shape
    return (
        f'<span class="tag" data-region="{number}" aria-hidden="true" '  # the legend says the same
        f'style="left:{100 * x / width:.2f}%;top:{100 * y / height:.2f}%;--c:{region.colour}">{escape(region.label)}</span>'
    )


def _entry(number: int, region: Region) -> str:
    score = "" if region.score is None else f" <small>{region.score:.2f}</small>"
    return (
        f'<li><button type="button" data-region="{number}"><i style="background:{region.colour}"></i>'
        f"{escape(region.label)}{score}</button></li>"
    )


def deepest(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """The point (x, y) of a mask (H, W) that is farthest from its border, on a grid of at most 128 points a side."""
    from scipy import ndimage

    stride = -(-max(mask.shape) // 128)
    small = np.pad(mask[::stride, ::stride], 1)
    if not small.any():
        y, x = (int(axis.mean()) for axis in np.nonzero(mask))
        return x + 0.5, y + 0.5
    row, column = np.unravel_index(ndimage.distance_transform_edt(small).argmax(), small.shape)
    return (int(column) - 0.5) * stride, (int(row) - 0.5) * stride
