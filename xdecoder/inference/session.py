"""Marking objects on one image round by round: clicks, strokes and boxes in, masks out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from xdecoder.inference import drawing
from xdecoder.inference.results import Drawable
from xdecoder.seem.clicks import Click, mark
from xdecoder.seem.strokes import Limits, box_stroke, confined
from xdecoder.types import StrokeMaps

MAX_POINTS = 4096  # that one call takes

Points = Sequence[Sequence[float]] | np.ndarray | Tensor


@dataclass(frozen=True)
class Canvas:
    """An image as the network sees it, and what the network makes of strokes on it."""

    image: Image.Image
    size: tuple[int, int]  # height and width of the resized image
    padded: tuple[int, int]  # and of the network's input around it
    segment: Callable[[StrokeMaps, Tensor | None], Tensor]
    """Mask logits (N, h, w) of the strokes of N objects and the logits of the round before, if there was one."""

    def pixel(self, x: float, y: float) -> tuple[int, int]:
        """Row and column of the input's pixel that holds a pixel of the image."""
        row, column = int((y + 0.5) * self.size[0] / self.image.height), int((x + 0.5) * self.size[1] / self.image.width)
        return min(row, self.size[0] - 1), min(column, self.size[1] - 1)

    def region(self, mask: Tensor) -> Tensor:
        """A mask (H, W) bool of the image as one of the padded input."""
        return seen_at(mask, self.size, self.padded)

    def full_size(self, logits: Tensor) -> Tensor:
        """Logits (N, h, w) at the image's own size, (N, H, W)."""
        size = (self.image.height, self.image.width)
        if not len(logits):
            return torch.zeros(0, *size)
        seen = F.interpolate(logits[None].float(), size=self.padded, mode="bilinear", align_corners=False)
        seen = seen[..., : self.size[0], : self.size[1]]
        return F.interpolate(seen, size=size, mode="bilinear", align_corners=False)[0]


def seen_at(mask: Tensor, size: tuple[int, int], padded: tuple[int, int]) -> Tensor:
    """A mask (H, W) bool of an image as one of the padded input: a pixel is marked if any of those it stands for is."""
    seen = F.adaptive_max_pool2d(mask[None, None].float(), size)[0, 0] > 0
    return F.pad(seen, (0, padded[1] - size[1], 0, padded[0] - size[0]))


@dataclass
class _State:
    """What is marked after one call, and what the network said to it once it was asked."""

    strokes: StrokeMaps
    limits: tuple[Limits | None, ...]
    current: int
    before: Tensor | None = None  # logits of the last round that was decoded before
    logits: Tensor | None = None


class Prompted(NamedTuple):
    """The mask of one object."""

    masks: Tensor  # (1, H, W) bool
    scores: Tensor  # (1,)
    logits: Tensor  # (1, h, w), to be given back as `mask`


class Session(Drawable):
    """One image on which objects are marked. Every call can be undone; a call that raises changes nothing.

    Coordinates are pixels of the image, x to the right and then y downwards, from (0, 0). Masks are worked out when they are
    asked for: calls in between make one round, whatever object they are about. What a round has found is remembered in the
    next one.
    """

    def __init__(self, canvas: Canvas) -> None:
        self.image = canvas.image
        self._canvas = canvas
        nothing = torch.zeros(1, *canvas.padded, dtype=torch.bool)
        self._history = [_State(StrokeMaps(nothing, nothing), (None,), 0)]

    @property
    def objects(self) -> int:
        """How many objects there are, among them perhaps a last one on which nothing is marked yet."""
        return len(self._state.strokes)

    @property
    def current(self) -> int:
        """The object to which the next marks belong, counted from 0."""
        return self._state.current

    @property
    def masks(self) -> Tensor:
        """(N, H, W) bool at the image's size, one for each object that is marked."""
        return self._full_size() > 0

    @property
    def scores(self) -> Tensor:
        """(N,) how sure each mask is: the mean probability of its pixels, 0 for an empty one."""
        logits = self._full_size()
        inside = logits > 0
        return (logits.sigmoid() * inside).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp(min=1)

    @property
    def logits(self) -> Tensor:
        """(N, h, w) of the masks as the network made them, a quarter of its input's size."""
        state = self._state
        if state.logits is None:
            strokes = _marked(state.strokes)
            found = self._canvas.segment(strokes, state.before) if len(strokes) else torch.zeros(0, *self._canvas.padded)
            state.logits = confined(found.float().cpu(), state.limits[: len(found)], self._canvas.padded)
        return state.logits

    def click(self, x: float, y: float, positive: bool = True) -> None:
        """A pixel that belongs to the object, or that does not; raises ValueError for one outside the image."""
        self.clicks([(x, y)], [positive])

    def clicks(self, points: Points, labels: Sequence[int]) -> None:
        """Several pixels (x, y) at once, each with 1 if it belongs to the object and 0 if it does not.

        Raises:
            ValueError: for points outside the image, another number of labels or other labels than 0 and 1, and if nothing of
                the object is marked in the end.
        """
        corners = self._points(points, "a click")
        if len(labels) != len(corners) or not set(np.asarray(labels).tolist()) <= {0, 1}:
            raise ValueError(f"each of {len(corners)} points needs a label, 1 for the object or 0 for what is not of it")
        state = self._state
        strokes = state.strokes
        if not bool(strokes.positive[state.current].any()) and not any(labels):
            raise ValueError("the first click on an object must be positive: there is nothing yet to take away from")
        for (x, y), label in zip(corners, labels, strict=True):
            row, column = self._canvas.pixel(x, y)
            dot = torch.zeros(self._canvas.padded, dtype=torch.bool)
            mark(dot, Click(row, column))
            strokes = _added(strokes, state.current, dot, bool(label))
        self._push(replace(state, strokes=strokes))

    def stroke(self, points: Points, width: float = 5, positive: bool = True) -> None:
        """A line through points, so many pixels wide; raises ValueError for none and for points outside the image."""
        corners = self._points(points, "a stroke")
        if width <= 0:
            raise ValueError(f"a stroke's width is a number of pixels above 0, not {width}")
        self._draw(corners, lambda brush: _line(brush, corners, width), positive, "a stroke")

    def polygon(self, points: Points, positive: bool = True) -> None:
        """All that lies within a polygon.

        Raises:
            ValueError: for fewer than three corners, corners outside the image, and a polygon that crosses itself.
        """
        corners = self._points(points, "a polygon")
        if len(corners) < 3:
            raise ValueError(f"a polygon has at least three corners, not {len(corners)}")
        if _crosses_itself(corners):
            raise ValueError("the polygon crosses itself; give its corners in order around the object")
        self._draw(corners, lambda brush: brush.polygon(corners, fill=1, outline=1), positive, "a polygon")

    def paint(self, mask: Any, positive: bool = True) -> None:
        """Pixels (H, W) of the image; raises ValueError for a mask of another size or one that marks nothing."""
        painted = torch.as_tensor(np.asarray(mask)).cpu()
        size = (self.image.height, self.image.width)
        if tuple(painted.shape) != size:
            raise ValueError(f"a painted mask has the image's size {size} (height, width), not {tuple(painted.shape)}")
        if not (painted > 0).any():
            raise ValueError("the painted mask marks no pixel")
        self._add(self._canvas.region(painted > 0), positive, "a painted mask")

    def box(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """The object lies within this box and fills it; raises ValueError for a box without area or outside the image."""
        left, top, right, bottom = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
        if not (right - left > 0 and bottom - top > 0):
            raise ValueError(f"the box from ({x0}, {y0}) to ({x1}, {y1}) has no area")
        self._check_inside([(left, top), (right, bottom)], "a box", edge=1)
        (row, column), (last_row, last_column) = self._canvas.pixel(left, top), self._canvas.pixel(right - 1, bottom - 1)
        limits = (column, row, max(last_column, column) + 1, max(last_row, row) + 1)
        stroke = box_stroke(limits, self._canvas.padded)
        state = self._state
        strokes = _added(_added(state.strokes, state.current, stroke.positive, True), state.current, stroke.negative, False)
        every = list(state.limits)
        every[state.current] = limits
        self._push(replace(state, strokes=strokes, limits=tuple(every)))

    def new_object(self) -> int:
        """What is marked from now on belongs to another object, whose number is returned.

        Raises:
            ValueError: as long as nothing is marked on the current one.
        """
        state = self._state
        if not state.strokes.positive[state.current].any():
            raise ValueError("nothing is marked on the current object yet; mark it before the next one begins")
        nothing = torch.zeros(1, *self._canvas.padded, dtype=torch.bool)
        strokes = StrokeMaps(torch.cat((state.strokes.positive, nothing)), torch.cat((state.strokes.negative, nothing)))
        self._push(replace(state, strokes=strokes, limits=(*state.limits, None), current=len(state.strokes)))
        return len(state.strokes)

    def select(self, number: int) -> None:
        """What is marked from now on belongs to this object, counted from 0; raises ValueError if there is none."""
        if not 0 <= number < self.objects:
            raise ValueError(f"there is no object {number}; there are {self.objects}, counted from 0")
        self._push(replace(self._state, current=number))

    def undo(self) -> None:
        """Take back the last call; raises ValueError if there is none."""
        if len(self._history) == 1:
            raise ValueError("there is nothing to undo")
        self._history.pop()

    def reset(self) -> None:
        """Begin again with an unmarked image. This, too, can be undone."""
        self._push(self._history[0])

    def _drawn(self, overlay_only: bool, style: drawing.Style) -> Image.Image:
        masks = self.masks
        names = [f"object {i + 1}" for i in range(len(masks))]
        return drawing.draw_masks(self.image, masks, names, overlay_only=overlay_only, style=style)

    def regions(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        for i, (mask, score) in enumerate(zip(self.masks, self.scores.tolist(), strict=True)):
            yield {"name": f"object {i + 1}", "category_id": i, "score": score}, mask

    def recall(self, logits: Tensor) -> None:
        """Continue from logits, (h, w) or (1, h, w), that an earlier session gave of the same image.

        Raises:
            ValueError: for logits of another size.
        """
        expected = tuple(side // 4 for side in self._canvas.padded)
        shown = logits.float().cpu().squeeze(0) if logits.dim() == 3 else logits.float().cpu()
        if tuple(shown.shape) != expected:
            raise ValueError(f"mask holds the logits of an earlier answer, {expected}, not {tuple(logits.shape)}")
        self._history = [replace(self._history[0], before=shown[None])]

    @property
    def _state(self) -> _State:
        return self._history[-1]

    def _push(self, state: _State) -> None:
        """Make a state the present one; what was decoded last is what the next round remembers."""
        last = self._state
        decoded = last.logits if last.logits is not None and len(last.logits) else last.before
        self._history.append(_State(state.strokes, state.limits, state.current, None if state is self._history[0] else decoded))

    def _points(self, points: Points, what: str) -> list[tuple[float, float]]:
        """Points as pairs of numbers inside the image."""
        try:
            array = np.asarray(points, dtype=float)
        except (TypeError, ValueError):
            array = np.zeros(0)
        if array.size == 0 and array.ndim <= 2:
            raise ValueError(f"{what} needs at least one point (x, y)")
        if array.ndim != 2 or array.shape[1] != 2:
            raise ValueError(f"{what} is made of points (x, y), an array of shape (points, 2), not {array.shape}")
        if len(array) > MAX_POINTS:
            raise ValueError(f"{len(array)} points are too many, at most {MAX_POINTS} can be given; paint a mask instead")
        corners = [(float(x), float(y)) for x, y in array]
        self._check_inside(corners, what)
        return corners

    def _check_inside(self, corners: Sequence[tuple[float, float]], what: str, edge: int = 0) -> None:
        """edge: by how many pixels the upper end of a coordinate may exceed the last pixel."""
        width, height = self.image.size
        for x, y in corners:
            if not (0 <= x < width + edge and 0 <= y < height + edge):
                raise ValueError(f"{what} at ({x:g}, {y:g}) lies outside the image of {width} x {height} pixels")

    def _draw(
        self, corners: list[tuple[float, float]], draw: Callable[[ImageDraw.ImageDraw], None], positive: bool, what: str
    ) -> None:
        layer = Image.new("1", self.image.size)
        draw(ImageDraw.Draw(layer))
        for x, y in corners:
            layer.putpixel((int(x), int(y)), 1)  # also of a line that is too thin to be drawn
        self._add(self._canvas.region(torch.from_numpy(np.array(layer, dtype=bool))), positive, what)

    def _add(self, region: Tensor, positive: bool, what: str) -> None:
        state = self._state
        if not positive and not state.strokes.positive[state.current].any():
            raise ValueError(
                f"{what} cannot be negative as the first mark on an object: there is nothing yet to take away from"
            )
        self._push(replace(state, strokes=_added(state.strokes, state.current, region, positive)))

    def _full_size(self) -> Tensor:
        return self._canvas.full_size(self.logits)


def _added(strokes: StrokeMaps, number: int, region: Tensor, positive: bool) -> StrokeMaps:
    """The strokes with a region (H, W) marked on one object."""
    marked = (strokes.positive if positive else strokes.negative).clone()
    marked[number] |= region
    return replace(strokes, positive=marked) if positive else replace(strokes, negative=marked)


def _marked(strokes: StrokeMaps) -> StrokeMaps:
    """Without a last object on which nothing is marked yet."""
    count = len(strokes) if strokes.positive[-1].any() else len(strokes) - 1
    return StrokeMaps(strokes.positive[:count], strokes.negative[:count])


def _line(brush: ImageDraw.ImageDraw, corners: list[tuple[float, float]], width: float) -> None:
    if len(corners) > 1:
        brush.line(corners, fill=1, width=max(round(width), 1), joint="curve")
    radius = width / 2
    for x, y in corners:
        brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)


def _crosses_itself(corners: Sequence[tuple[float, float]]) -> bool:
    """Whether two sides that are no neighbours meet."""
    starts = np.array(corners)
    ends = np.roll(starts, -1, axis=0)

    def side(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        """On which side of the line from a to b the point c lies."""
        turn = (b - a)[..., 0] * (c - a)[..., 1] - (b - a)[..., 1] * (c - a)[..., 0]
        return np.sign(turn)

    a, b, c, d = starts[:, None], ends[:, None], starts[None], ends[None]
    cross = (side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)
    return bool(cross.any())
