"""Strokes as people draw them on an object: points, scribbles, thick circles, polygons and boxes, made up of random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from xdecoder.boxes import box_around
from xdecoder.seem.clicks import ClickRule, deepest

Kind = Literal["point", "scribble", "circle", "polygon", "box"]
KINDS: tuple[Kind, ...] = ("point", "scribble", "circle", "polygon", "box")

SMALLEST = 10  # pixels that an object must have for somebody to draw on it
_POINTS = 20  # at most
_LINES = 5  # of a scribble, at most
_CORNERS = 9  # of a polygon, at most
_ROUNDNESS = 0.2  # of a polygon's curve: how far its control points lie, as a share of a side
_EDGINESS = 0.05
_STEPS = 100  # pixels that are drawn of each piece of the curve

OUTSIDE = -100.0  # logit of pixels that a box excludes

Limits = tuple[int, int, int, int]  # x0, y0, x1, y1; x1 and y1 excluded
Mask = NDArray[np.bool_]
Points = NDArray[np.float64]  # (N, 2)


@dataclass(frozen=True)
class Hand:
    """How a hand moves: it turns and speeds up at random from corner to corner."""

    corners: tuple[int, int]  # how many it makes, the upper end excluded
    speed: float  # the most, pixels from corner to corner
    acceleration: float  # the most
    turn: float  # the most, radians
    brush: tuple[int, int]  # width of the line in pixels, the upper end excluded
    jitter: int  # by how many pixels half of the corners are moved
    slip: float  # by how many pixels the whole line is moved, twice the standard deviation


SCRIBBLES = (
    Hand(corners=(10, 30), speed=20, acceleration=15, turn=0.5, brush=(3, 10), jitter=3, slip=6),
    Hand(corners=(6, 22), speed=12, acceleration=8, turn=0.5, brush=(2, 5), jitter=1, slip=3),
)
CIRCLES = (
    Hand(corners=(5, 30), speed=15, acceleration=10, turn=1.5, brush=(20, 50), jitter=10, slip=10),
    Hand(corners=(5, 15), speed=8, acceleration=4, turn=1.5, brush=(20, 50), jitter=5, slip=10),
    Hand(corners=(5, 20), speed=7, acceleration=3.5, turn=1.5, brush=(10, 30), jitter=5, slip=4),
)


@dataclass(frozen=True)
class Stroke:
    """What somebody marked on an image for one object."""

    positive: Tensor  # (H, W) bool: of the object
    negative: Tensor  # (H, W) bool: not of it
    limits: Limits | None = None  # where the object ends

    @staticmethod
    def of(positive: Tensor) -> Stroke:
        """One that marks only pixels (H, W) of the object."""
        return Stroke(positive, torch.zeros_like(positive))


def draw_stroke(mask: Tensor, kind: Kind, rng: np.random.Generator) -> Stroke:
    """A stroke that marks an object somewhere; empty if the object has fewer than `SMALLEST` pixels or was missed.

    mask: (H, W) bool.
    """
    inside = mask.cpu().numpy()
    if inside.sum() < SMALLEST:
        return Stroke.of(torch.zeros_like(mask))
    if kind == "box":
        return box_stroke(_around(inside), (inside.shape[0], inside.shape[1]), mask.device)
    places = np.argwhere(inside)
    match kind:
        case "point":
            drawn = np.zeros_like(inside)
            chosen = rng.choice(places, size=_upto(_POINTS, len(places), rng), replace=False)
            drawn[chosen[:, 0], chosen[:, 1]] = True
        case "polygon":
            drawn = _polygon(inside, places, rng)
        case _:
            hand = _one_of(SCRIBBLES if kind == "scribble" else CIRCLES, rng)
            starts = places[rng.integers(len(places), size=_upto(_LINES, len(places), rng))]
            drawn = draw_lines(inside.shape, starts, hand, rng) & inside
    return Stroke.of(torch.from_numpy(drawn).to(mask.device))


def first_stroke(mask: Tensor, kind: Kind, rng: np.random.Generator, rule: ClickRule = "euclid") -> Stroke:
    """A stroke with which somebody begins: as `draw_stroke`, but a point is a click in the middle, where lines start.

    mask: (H, W) bool.
    """
    row, column = deepest(mask, rule)
    drawn = torch.zeros_like(mask)
    if not mask.any():
        return Stroke.of(drawn)
    if kind == "point":
        drawn[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = True
    elif kind in ("scribble", "circle"):
        hand = _one_of(SCRIBBLES if kind == "scribble" else CIRCLES, rng)
        lines = draw_lines(tuple(mask.shape), np.array([[row, column]]), hand, rng)
        drawn = torch.from_numpy(lines).to(mask.device) & mask
    else:
        return draw_stroke(mask, kind, rng)
    return Stroke.of(drawn)


def draw_lines(size: tuple[int, ...], starts: NDArray[np.int64], hand: Hand, rng: np.random.Generator) -> Mask:
    """Lines of a moving hand, one from each start (row, column), on an image of this height and width: (H, W) bool."""
    height, width = size
    image = Image.new("1", (width, height))
    brush = ImageDraw.Draw(image)
    for row, column in starts.tolist():
        _draw(brush, _slipped(_moved(column, row, hand, rng), hand, rng), int(rng.integers(*hand.brush)))
    return np.array(image, dtype=bool)


def box_stroke(box: Limits, size: tuple[int, int], device: torch.device | str = "cpu") -> Stroke:
    """What a box says: its middle is the object's, what lies right outside is not, and the object ends at the box.

    Args:
        box: x0, y0, x1, y1 in pixels, x1 and y1 excluded.
        size: height and width of the image.
    """
    x0, y0, x1, y1 = box
    rows = (torch.arange(size[0], device=device) + 0.5 - (y0 + y1) / 2)[:, None] / (y1 - y0)
    columns = (torch.arange(size[1], device=device) + 0.5 - (x0 + x1) / 2) / (x1 - x0)
    middle = rows**2 + columns**2 <= 1 / 16
    middle[int((y0 + y1) / 2), int((x0 + x1) / 2)] = True  # of a box of one pixel, that one
    frame = torch.zeros(size, dtype=torch.bool, device=device)
    frame[max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1] = True
    frame[y0:y1, x0:x1] = False
    return Stroke(middle, frame, box)


def confined(logits: Tensor, limits: Sequence[Limits | None], size: tuple[int, int]) -> Tensor:
    """Mask logits (N, h, w) with nothing outside each object's box, which is counted in pixels of an input of `size`."""
    confined = logits.clone()
    height, width = logits.shape[-2:]
    for i, limit in enumerate(limits):
        if limit is not None:
            rows = _scaled(limit[1], limit[3], height / size[0])
            columns = _scaled(limit[0], limit[2], width / size[1])
            confined[i] = OUTSIDE
            confined[i, rows, columns] = logits[i, rows, columns]
    return confined


def _scaled(start: int, end: int, scale: float) -> slice:
    first = int(start * scale)
    return slice(first, max(round(end * scale), first + 1))


def _moved(x: float, y: float, hand: Hand, rng: np.random.Generator) -> Points:
    """The corners (x, y) of a line that begins at a place."""
    heading, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0, hand.speed)
    corners = [(x, y)]
    for _ in range(int(rng.integers(*hand.corners))):
        speed = float(np.clip(speed + rng.uniform(-hand.acceleration, hand.acceleration), 0, hand.speed))
        heading += rng.uniform(-hand.turn, hand.turn)
        x, y = x + speed * np.sin(heading), y + speed * np.cos(heading)
        corners.append((x, y))
    return np.array(corners)


def _slipped(corners: Points, hand: Hand, rng: np.random.Generator) -> Points:
    """The same line somewhat beside where it was meant to be, half of its corners a little more."""
    far, direction = abs(rng.normal(0, hand.slip / 2)), rng.uniform(0, 2 * np.pi)
    corners = corners + np.trunc([far * np.cos(direction), far * np.sin(direction)])
    chosen = rng.choice(len(corners), size=len(corners) // 2, replace=False)
    corners[chosen] += rng.integers(-hand.jitter, hand.jitter, size=(len(chosen), 2))
    return corners


def _draw(brush: ImageDraw.ImageDraw, corners: Points, width: int) -> None:
    brush.line([(float(x), float(y)) for x, y in corners], fill=1, width=width)
    radius = width // 2 - 1
    for x, y in corners if radius > 0 else ():
        brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)


def _polygon(inside: Mask, places: NDArray[np.int64], rng: np.random.Generator) -> Mask:
    """The outline of a rounded polygon through random pixels of the object; it may leave the object, not its box."""
    corners = rng.choice(places, size=_upto(_CORNERS, len(places), rng), replace=False)
    x0, y0, x1, y1 = _around(inside)
    sides = np.array([y1 - y0, x1 - x0])
    curve = np.clip(_closed_curve((corners - (y0, x0)) / (sides + 1)), 0, 1)
    pixels = np.array([y0, x0]) + (curve * (sides - 1)).astype(int)
    drawn = np.zeros_like(inside)
    drawn[pixels[:, 0], pixels[:, 1]] = True
    return drawn


def _closed_curve(corners: Points) -> Points:
    """Cubic Bézier pieces through the corners in the order of their directions from the middle: (N · `_STEPS`, 2)."""
    around = corners - corners.mean(0)
    corners = corners[np.argsort(np.arctan2(around[:, 0], around[:, 1]))]
    ends = np.roll(corners, -1, axis=0)
    towards = ends - corners
    angle = np.arctan2(towards[:, 0], towards[:, 1]) % (2 * np.pi)  # of the side that begins at each corner
    before = np.roll(angle, 1)
    share = np.arctan(_EDGINESS) / np.pi + 0.5
    tangent = share * angle + (1 - share) * before + np.pi * (np.abs(before - angle) > np.pi)
    direction = np.stack((np.sin(tangent), np.cos(tangent)), axis=1)
    reach = _ROUNDNESS * np.linalg.norm(towards, axis=1, keepdims=True)
    leaving, arriving = corners + reach * direction, ends - reach * np.roll(direction, -1, axis=0)
    t = np.linspace(0, 1, _STEPS)[:, None]
    pieces = [
        (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
        for a, b, c, d in zip(corners, leaving, arriving, ends, strict=True)
    ]
    return np.concatenate(pieces)


def _around(inside: Mask) -> Limits:
    box = box_around(inside)
    assert box is not None, "strokes are drawn on what has pixels"
    return box


def _upto(most: int, available: int, rng: np.random.Generator) -> int:
    return int(rng.integers(1, min(most, available) + 1))


def _one_of(hands: Sequence[Hand], rng: np.random.Generator) -> Hand:
    return hands[int(rng.integers(len(hands)))]
