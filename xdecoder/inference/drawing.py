"""Drawing results: class colours, masks, labels and contact sheets, with Pillow and NumPy alone.

Every `draw_*` function paints its regions on one transparent layer and lays that over the picture. A picture whose size
differs from that of its labels is resized to theirs; small ones are scaled up by a whole number, so that labels can be read.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from xdecoder.boxes import Box, box_around
from xdecoder.defaults import LEAST_SCORE
from xdecoder.language.prompts import clean
from xdecoder.texts import check_number
from xdecoder.types import InstanceResult, PanopticResult, Vocabulary

Picture: TypeAlias = "Image.Image | NDArray[np.uint8] | Tensor"  # PIL, (H, W, 3) uint8 or (3, H, W) uint8
Array: TypeAlias = "NDArray[Any] | Tensor"
Colour: TypeAlias = tuple[int, int, int]

MIN_SIDE = 360  # a picture whose longer side is shorter than this is scaled up
GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
R2 = (0.7548776662466927, 0.5698402909980532)
TONES = ((0.72, 0.16), (0.58, 0.17), (0.84, 0.13))  # (lightness, chroma) in OKLCH, taken in turn
SLOTS = 192  # colours of the palette
SHADES = (0.22, 0.9)  # how far the colours of one class's instances are apart, in lightness and in hue (radians)
NIGHT = (16, 18, 24)
DISTINCT = (0.15, 0.11, 0.08)  # distances at which colours are told apart at a glance; the next where one cannot be had


@dataclass(frozen=True)
class Style:
    """How regions are drawn.

    Raises:
        ValueError: for an opacity outside 0…1.
    """

    labels: bool = True  # whether names are written
    opacity: float | None = None  # of regions, 0…1; None = as it suits each kind of result
    keep_colors: bool = False  # of the picture, which is greyed otherwise, so that classes look the same everywhere

    def __post_init__(self) -> None:
        if self.opacity is not None:
            check_number(self.opacity, "opacity")
            if not 0 <= self.opacity <= 1:
                raise ValueError(f"opacity must be a number from 0 to 1, not {self.opacity}")


PLAIN = Style()


def class_colours(names: Sequence[str]) -> list[Colour]:
    """One RGB colour for each name, in their order.

    A name's hash picks its place in a golden-angle palette; where that is too close to the colour of an earlier name, the
    next place that is not is taken. Hence a name has the same colour in all pictures of a vocabulary and in every run.
    """
    return list(_class_colours(tuple(names)))


@lru_cache(maxsize=64)
def _class_colours(names: tuple[str, ...]) -> tuple[Colour, ...]:
    lab, rgb = _palette()
    gap = np.full(SLOTS, np.inf)  # of every slot, the distance to the nearest colour in use
    slot_of: dict[str, int] = {}
    for name in dict.fromkeys(names):
        first = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        turn = (first + np.arange(SLOTS)) % SLOTS
        distinct = next((free for limit in DISTINCT if len(free := turn[gap[turn] >= limit])), turn[[gap[turn].argmax()]])
        slot_of[name] = int(distinct[0])
        gap = np.minimum(gap, np.linalg.norm((lab - lab[slot_of[name]]) * (0.5, 1, 1), axis=1))  # the ground varies lightness
    return tuple((int(r), int(g), int(b)) for r, g, b in (rgb[slot_of[name]] for name in names))


def instance_colours(names: Sequence[str], labels: Sequence[int]) -> list[Colour]:
    """One RGB colour for each region, given its class's number among `names`.

    The first of a class has the class's colour, the others are shades of it, so that neighbours are told apart.
    """
    lab, rgb = _palette()
    slot_of = {colour: slot for slot, colour in reversed(list(enumerate(map(tuple, rgb.tolist()))))}
    colours, times = class_colours(names), dict.fromkeys(labels, 0)
    found = []
    for label in labels:
        turn, times[label] = times[label], times[label] + 1
        if not turn:
            found.append(colours[label])
            continue
        lightness, a, b = lab[slot_of[colours[label]]]
        # Steps that spread evenly over a square however many there are (Roberts 2018, the sequence R2).
        step, angle = (extent * ((turn * share + 0.5) % 1 - 0.5) for extent, share in zip(SHADES, R2, strict=True))
        hue, chroma = math.atan2(b, a) + angle, math.hypot(a, b)
        shade = np.array([[np.clip(lightness + step, 0.45, 0.92), chroma * math.cos(hue), chroma * math.sin(hue)]])
        red, green, blue = _srgb(shade)[0].tolist()
        found.append((red, green, blue))
    return found


@lru_cache(maxsize=1)
def _palette() -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """OKLab coordinates and 8-bit sRGB of the palette's slots, both (SLOTS, 3)."""
    slot = np.arange(SLOTS)
    lightness, chroma = np.array(TONES)[slot % len(TONES)].T
    lab = np.stack([lightness, chroma * np.cos(slot * GOLDEN_ANGLE), chroma * np.sin(slot * GOLDEN_ANGLE)], axis=1)
    return lab, _srgb(lab)


def _srgb(lab: NDArray[np.float64]) -> NDArray[np.uint8]:
    """OKLab (N, 3) as 8-bit sRGB; colours that it lacks are clipped. Source: Ottosson 2020, OKLab."""
    to_cones = np.array([[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]])
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip((lab @ to_cones.T) ** 3 @ to_linear.T, 0, 1)
    gamma = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.round(gamma * 255).astype(np.uint8))


@dataclass(frozen=True)
class _Region:
    mask: NDArray[np.bool_]  # (H, W)
    colour: Colour
    text: str
    opacity: float
    outlined: bool = True
    found: bool = True  # or what is darkened around that


def draw_semantic(
    image: Picture, labels: Array, vocabulary: Vocabulary, overlay_only: bool = False, style: Style = PLAIN
) -> Image.Image:
    """Draw a label map.

    Args:
        image: the picture.
        labels: (H, W) integers; values that index no class (ignored pixels) leave the picture as it is.
        vocabulary: the classes that `labels` index.
        overlay_only: return the transparent RGBA layer without the picture.
        style: names, opacity and the picture's colours.
    """
    labels = _array(labels, 2, "labels")
    colours = class_colours(vocabulary.names)
    present = [int(c) for c in np.unique(labels) if 0 <= c < len(vocabulary)]
    regions = [_Region(labels == c, colours[c], clean(vocabulary.names[c]), 0.6) for c in present]
    return _render(image, labels.shape, regions, overlay_only, style)


def draw_panoptic(
    image: Picture, result: PanopticResult, vocabulary: Vocabulary, overlay_only: bool = False, style: Style = PLAIN
) -> Image.Image:
    """Draw a panoptic result: stuff faintly, things above it with an outline each; arguments as for `draw_semantic`."""
    ids = _array(result.ids, 2, "ids")
    segments = sorted(result.segments, key=lambda s: s.is_thing)
    colours = instance_colours(vocabulary.names, [s.label for s in segments])
    regions = [
        _Region(ids == s.id, colour, clean(vocabulary.names[s.label]), 0.65 if s.is_thing else 0.45, s.is_thing)
        for s, colour in zip(segments, colours, strict=True)
    ]
    return _render(image, ids.shape, regions, overlay_only, style)


def draw_instances(
    image: Picture,
    result: InstanceResult,
    vocabulary: Vocabulary,
    threshold: float = LEAST_SCORE,
    overlay_only: bool = False,
    style: Style = PLAIN,
) -> Image.Image:
    """Draw the instances whose score is at least `threshold`, the surest on top; other arguments as for `draw_semantic`."""
    masks, labels, scores = _array(result.masks, 3, "masks") > 0, _array(result.labels), _array(result.scores)
    shown = [i for i in np.argsort(-scores, kind="stable").tolist() if scores[i] >= threshold]
    colours = instance_colours(vocabulary.names, [int(labels[i]) for i in shown])
    regions = [
        _Region(masks[i], colour, f"{clean(vocabulary.names[labels[i]])} {scores[i]:.2f}", 0.6)
        for i, colour in zip(shown, colours, strict=True)
    ]
    return _render(image, masks.shape[1:], regions[::-1], overlay_only, style)


def draw_masks(
    image: Picture,
    masks: Array,
    texts: Sequence[str],
    truth: Array | None = None,
    overlay_only: bool = False,
    style: Style = PLAIN,
) -> Image.Image:
    """Draw one mask for each phrase; what no mask covers is darkened, so that the colours phrases speak of stay true.

    Args:
        image: the picture.
        masks: (P, H, W) booleans.
        texts: P labels; an empty one is not written.
        truth: (P, H, W) booleans, drawn above as white contours.
        overlay_only: return the transparent RGBA layer without the picture.
        style: names and opacity; the picture keeps its colours.

    Raises:
        ValueError: for another number of texts than of masks.
    """
    masks = _array(masks, 3, "masks") > 0
    if len(masks) != len(texts):
        raise ValueError(f"{len(masks)} masks need as many texts, not {len(texts)}")
    style = replace(style, keep_colors=True)
    rest = _Region(masks.sum(axis=0) == 0, NIGHT, "", 0.55, outlined=False, found=False)
    coloured = zip(masks, class_colours(texts), texts, strict=True)
    regions = [rest, *(_Region(mask, colour, text, 0.18) for mask, colour, text in coloured)]
    contours = [] if truth is None else list(_array(truth, 3, "truth") > 0)
    return _render(image, masks.shape[1:], regions, overlay_only, style, contours)


def to_pil(image: Picture) -> Image.Image:
    """An RGB picture from a PIL image, an (H, W, 3) uint8 array or a (3, H, W) uint8 tensor; raises ValueError for others."""
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    pixels = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if isinstance(image, Tensor) and pixels.ndim == 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        found = f"{tuple(image.shape)} {image.dtype}"
        raise ValueError(f"a picture is a (3, H, W) uint8 tensor or an (H, W, 3) uint8 array, not {found}")
    return Image.fromarray(np.ascontiguousarray(pixels))


def enlarge(image: Picture, size: tuple[int, int] | None = None) -> Image.Image:
    """The picture as the `draw_*` functions show it for labels of `size` (height, width): the ground of a comparison."""
    picture = to_pil(image)
    height, width = size or (picture.height, picture.width)
    factor = _factor((height, width))
    target = (width * factor, height * factor)
    return picture if picture.size == target else picture.resize(target, Image.Resampling.BICUBIC)


def muted(image: Image.Image) -> Image.Image:
    """An RGB picture nearly without colour: a ground on which the colours of classes look the same everywhere."""
    return Image.blend(image, image.convert("L").convert("RGB"), 0.75)


def grid(images: Sequence[Image.Image], captions: Sequence[str], columns: int, background: str = "white") -> Image.Image:
    """A contact sheet: the pictures row by row, each with its caption (which may be empty) wrapped below it."""
    if len(images) != len(captions) or not images or columns < 1:
        found = f"{len(images)}, {len(captions)} and {columns}"
        raise ValueError(f"a grid needs pictures, as many captions, and at least one column, not {found}")
    cell, gap = max(image.width for image in images), 12
    font = _font(max(13, cell // 26))
    line = round(font.size * 1.3)
    wrapped = [_wrap(caption, font, cell) for caption in captions]
    rows = [range(start, min(start + columns, len(images))) for start in range(0, len(images), columns)]
    tops = [max(images[i].height for i in row) for row in rows]
    texts = [max(len(wrapped[i]) for i in row) * line for row in rows]
    height = sum(tops) + sum(texts) + gap * (2 * len(rows) + 1)
    sheet = Image.new("RGB", (min(columns, len(images)) * (cell + gap) + gap, height), background)
    draw = ImageDraw.Draw(sheet)
    y = gap
    for row, top, text in zip(rows, tops, texts, strict=True):
        for column, i in enumerate(row):
            x = gap + column * (cell + gap)
            sheet.paste(images[i], (x + (cell - images[i].width) // 2, y))
            for number, words in enumerate(wrapped[i]):
                draw.text((x + cell / 2, y + top + gap // 2 + number * line), words, "#24292f", font, anchor="ma")
        y += top + text + 2 * gap
    return sheet


def _render(
    image: Picture,
    size: tuple[int, ...],
    regions: Sequence[_Region],
    overlay_only: bool,
    style: Style,
    contours: Sequence[NDArray[np.bool_]] = (),
) -> Image.Image:
    """Regions painted in their order (a later one hides an earlier one), then contours, then labels."""
    height, width = size
    factor = _factor((height, width))
    layer = np.zeros((height * factor, width * factor, 4), np.uint8)
    stroke = max(1, round(max(layer.shape) / 320))
    for region in regions:
        mask = _repeat(region.mask, factor)
        opacity = region.opacity if style.opacity is None or not region.found else style.opacity
        layer[mask] = (*region.colour, round(255 * opacity))
        if region.outlined:
            layer[_edge(mask, stroke)] = (*_mix(region.colour, 0.35), 235)
    for mask in contours:
        border = _edge(_repeat(mask, factor), stroke)
        from scipy import ndimage  # here and below, since it takes half a second that those who do not draw need not wait

        layer[ndimage.binary_dilation(border, iterations=stroke)] = (*NIGHT, 255)
        layer[border] = (255, 255, 255, 255)
    overlay = Image.fromarray(layer)
    if style.labels:
        _write_labels(overlay, regions, factor)
    if overlay_only:
        return overlay
    ground = enlarge(image, (height, width))
    if not style.keep_colors:
        ground = muted(ground)
    return Image.alpha_composite(ground.convert("RGBA"), overlay).convert("RGB")


def _write_labels(overlay: Image.Image, regions: Sequence[_Region], factor: int) -> None:
    draw = ImageDraw.Draw(overlay)
    font = _font(max(12, round(max(overlay.size) / 38)))
    taken: list[Box] = []
    hidden = np.zeros((overlay.height // factor, overlay.width // factor), bool)
    for region in reversed(regions):  # the topmost first: it has the first choice of a place
        visible, hidden = region.mask & ~hidden, hidden | region.mask
        text = _shorten(region.text, font, overlay.width - font.size)
        if not text or not visible.any():
            continue
        size = (round(font.getlength(text) + 0.8 * font.size), round(1.45 * font.size))
        box = _free_box(_anchor(visible, factor, size), size, overlay.size, taken, visible)
        if box is None:
            continue  # the picture is full
        taken.append(box)
        chip = (*_mix(region.colour, 0.22), 225)
        _point(draw, box, visible, factor, chip)
        draw.rounded_rectangle(box, font.size // 3, fill=chip)
        draw.text(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), text, (255, 255, 255, 255), font, anchor="mm")


def _anchor(mask: NDArray[np.bool_], factor: int, size: tuple[int, int]) -> tuple[float, float]:
    """Where the middle (x, y) of a label goes: deep inside the region, or above one so small that the label would hide it."""

    stride = max(1, max(mask.shape) // 160)
    small = mask[::stride, ::stride]
    if not small.any():
        small, stride = mask, 1
    if mask.sum() * factor**2 < 4.5 * size[0] * size[1]:
        rows, columns = np.nonzero(mask)
        middle = (columns.min() + columns.max() + 1) / 2 * factor
        above = rows.min() * factor - size[1] / 2 - 3
        return middle, above if above > size[1] / 2 else (rows.max() + 1) * factor + size[1] / 2 + 3
    from scipy import ndimage

    depth = ndimage.distance_transform_edt(np.pad(small, 1))[1:-1, 1:-1]
    deepest = np.argwhere(depth >= 0.9 * depth.max())
    y, x = deepest[np.linalg.norm(deepest - deepest.mean(axis=0), axis=1).argmin()]
    return (x + 0.5) * stride * factor, (y + 0.5) * stride * factor


def _free_box(
    anchor: tuple[float, float], size: tuple[int, int], padded: tuple[int, int], taken: Sequence[Box], mask: NDArray[np.bool_]
) -> Box | None:
    """The free box nearest to the anchor that lies in the image, rather on its own region than on a neighbour's.

    None if there is none anywhere.
    """
    width, height = size
    factor = padded[1] // mask.shape[0]
    left = _places(anchor[0] - width / 2, width / 4, padded[0] - width)[None, :]
    top = _places(anchor[1] - height / 2, height / 2, padded[1] - height)[:, None]
    middle_x, middle_y = left + width // 2, top + height // 2
    own = mask[np.minimum(middle_y, padded[1] - 1) // factor, np.minimum(middle_x, padded[0] - 1) // factor]
    distance = np.hypot(middle_x - anchor[0], middle_y - anchor[1]) + np.where(own, 0, 3 * height)
    for x0, y0, x1, y1 in taken:
        overlaps = (left <= x1) & (x0 <= left + width) & (top <= y1) & (y0 <= top + height)
        distance[overlaps] = math.inf
    best = np.unravel_index(distance.argmin(), distance.shape)
    if math.isinf(distance[best]):
        return None
    x, y = int(left[0, best[1]]), int(top[best[0], 0])
    return x, y, x + width, y + height


def _places(wanted: float, step: float, last: int) -> NDArray[np.int64]:
    """Where a label may begin along one side, in steps from where it would best: whole numbers from 1 to last - 2."""
    end = max(last - 2, 1)
    start = min(max(wanted, 1), end)
    steps = np.arange(-math.floor((start - 1) / step), math.floor((end - start) / step) + 1)
    return np.unique(np.round(start + steps * step).astype(np.int64))


def _point(draw: ImageDraw.ImageDraw, box: Box, mask: NDArray[np.bool_], factor: int, colour: tuple[int, ...]) -> None:
    """A line from a label that had to move to the nearest pixel of what it names."""
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    if mask[int(middle[1]) // factor, int(middle[0]) // factor]:
        return
    rows, columns = np.nonzero(mask)
    nearest = np.hypot(columns * factor - middle[0], rows * factor - middle[1]).argmin()
    x, y = (int(columns[nearest]) + 0.5) * factor, (int(rows[nearest]) + 0.5) * factor
    away = max(box[0] - x, x - box[2], box[1] - y, y - box[3])
    if away > box[3] - box[1]:
        draw.line((*middle, x, y), fill=colour, width=max(1, round(max(mask.shape) * factor / 400)))


def _array(values: Array, dimensions: int | None = None, name: str = "values") -> NDArray[Any]:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if dimensions is not None and array.ndim != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimensions, not the shape {tuple(array.shape)}")
    return array


def _factor(size: tuple[int, int]) -> int:
    return max(1, math.ceil(MIN_SIDE / max(size)))


def _repeat(mask: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    return mask.repeat(factor, axis=0).repeat(factor, axis=1)


def _edge(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """The `width` outermost pixels of a mask; the picture's own border is no edge."""

    edge = np.zeros_like(mask)
    if (around := box_around(mask)) is None:
        return edge
    left, top, right, bottom = around
    near = slice(max(top - width, 0), bottom + width), slice(max(left - width, 0), right + width)
    from scipy import ndimage

    inner = ndimage.minimum_filter(mask[near].view(np.uint8), 2 * width + 1, mode="constant", cval=1)
    edge[near] = mask[near] & (inner == 0)
    return edge


def _mix(colour: Colour, brightness: float) -> Colour:
    r, g, b = (round(channel * brightness) for channel in colour)
    return r, g, b


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # asked for by size, it can be no other
    return font


def _shorten(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    text = " ".join(text.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..." if text else ""


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            joined = f"{line} {word}".strip()
            if line and font.getlength(joined) > width:
                lines.append(line)
                joined = word
            line = _shorten(joined, font, width)
        lines.append(line)
    return lines
