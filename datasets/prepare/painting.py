"""Composing and drawing the scenes of the generated set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from datasets.shapes import SHAPES, SIZES, Pair, Scene, Thing

RADII = {"small": (13.0, 14.5), "medium": (19.0, 22.0), "large": (28.0, 32.0)}  # at 128 pixels
TEXTURES = ("plain", "stripes", "dots", "noise")
UPPER = ("sky", "brick", "wood", "water")
LOWER = ("grass", "sand", "water", "wood", "brick")
RGB = {
    "red": (214, 36, 40),
    "orange": (247, 134, 20),
    "yellow": (250, 218, 40),
    "green": (28, 160, 72),
    "blue": (36, 84, 222),
    "purple": (142, 58, 178),
    "white": (240, 240, 240),
    "black": (42, 42, 46),
}

_VISIBLE = 0.65  # share of each thing that must stay uncovered and inside
_OVERSAMPLING = 4
_LIGHT = np.array([-0.6, -0.8])  # where it comes from, y downwards


@dataclass(frozen=True)
class Stencil:
    """Coverage of a thing in its square patch, whose corner is (left, top) in the picture."""

    alpha: np.ndarray  # (S, S) float32, 0 to 1
    shade: np.ndarray  # (S, S) float32 brightness of faces
    left: int
    top: int


@dataclass(frozen=True)
class Painting:
    """A drawn scene."""

    scene: Scene
    pixels: np.ndarray  # (H, W, 3) uint8 RGB
    ids: np.ndarray  # (H, W) uint8: thing k is k + 1, then the upper stuff, then the lower


def compose(rng: np.random.Generator, side: int, first: Sequence[Pair], others: Sequence[Pair]) -> tuple[Scene, list[Stencil]]:
    """A scene of two to five things: one of the pairs `first`, the rest of `others`, often alike in shape or colour."""
    while True:
        pair = first[int(rng.integers(len(first)))]
        wanted = [pair, *(_companion(rng, pair, others) for _ in range(rng.integers(1, 5)))]
        order = rng.permutation(len(wanted))
        things: list[Thing] = []
        stencils: list[Stencil] = []
        for i in order:
            _place(rng, side, wanted[i], things, stencils)
        if len(things) >= 2 and any(thing.pair == pair for thing in things):
            upper = UPPER[rng.integers(len(UPPER))]
            lower = [stuff for stuff in LOWER if stuff != upper]
            return Scene(tuple(things), upper, lower[rng.integers(len(lower))], side), stencils


def _companion(rng: np.random.Generator, pair: Pair, others: Sequence[Pair]) -> Pair:
    """Half of the time something that a careless reader would mistake for `pair`; now and then its twin."""
    chance = rng.random()
    if chance < 0.1:
        return pair
    alike = [other for other in others if (other[0] == pair[0]) != (other[1] == pair[1])]
    pool = alike if chance < 0.5 else others
    return pool[int(rng.integers(len(pool)))]


def _place(rng: np.random.Generator, side: int, pair: Pair, things: list[Thing], stencils: list[Stencil]) -> None:
    """Put a thing on top where every other one stays visible; leave it out if there is no room."""
    size = SIZES[rng.integers(len(SIZES))]
    radius = rng.uniform(*RADII[size]) * side / 128
    thing = Thing(
        shape=pair[1],
        colour=pair[0],
        size=size,
        x=0.0,
        y=0.0,
        radius=radius,
        angle=rng.uniform(-0.15, 0.15),
        texture=TEXTURES[rng.integers(len(TEXTURES))],
    )
    for _ in range(12):
        x, y = rng.uniform(0.8 * radius, side - 0.8 * radius, 2)
        moved = replace(thing, x=float(x), y=float(y))
        stencil = stencil_of(moved)
        if _all_visible([*stencils, stencil], side):
            things.append(moved)
            stencils.append(stencil)
            return


def _all_visible(stencils: list[Stencil], side: int) -> bool:
    ids = np.zeros((side, side), dtype=np.uint8)
    for number, stencil in enumerate(stencils, start=1):
        inside, patch = _windows(stencil, side)
        ids[inside][stencil.alpha[patch] >= 0.5] = number
    seen = np.bincount(ids.ravel(), minlength=len(stencils) + 1)[1:]
    return all(count >= _VISIBLE * (s.alpha >= 0.5).sum() for count, s in zip(seen, stencils, strict=True))


def _windows(stencil: Stencil, side: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where the patch lies in the picture, and which part of the patch that is."""
    length = stencil.alpha.shape[0]
    top, left = max(stencil.top, 0), max(stencil.left, 0)
    bottom, right = min(stencil.top + length, side), min(stencil.left + length, side)
    inside = slice(top, bottom), slice(left, right)
    return inside, (slice(top - stencil.top, bottom - stencil.top), slice(left - stencil.left, right - stencil.left))


def stencil_of(thing: Thing) -> Stencil:
    """Draw the outline several times too large, and average."""
    half = math.ceil(thing.radius) + 2
    left, top = math.floor(thing.x) - half, math.floor(thing.y) - half
    length = 2 * half + 1
    cos, sin = math.cos(thing.angle), math.sin(thing.angle)
    turn = np.array([[cos, sin], [-sin, cos]]) * thing.radius * _OVERSAMPLING
    # cv2 counts from pixel centres
    shift = (np.array([thing.x - left, thing.y - top]) * _OVERSAMPLING) - 0.5

    def drawn(padded: np.ndarray, contours: list[np.ndarray], value: float) -> None:
        points = [np.round((contour @ turn + shift) * 16).astype(np.int32) for contour in contours]
        cv2.fillPoly(padded, points, value, shift=4)

    large = np.zeros((length * _OVERSAMPLING,) * 2, dtype=np.uint8)
    drawn(large, outline(thing.shape), 255)
    alpha = cv2.resize(large, (length, length), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    faces = np.full_like(large, 100)
    for face, brightness in _faces(thing.shape):
        drawn(faces, [face], 100 * brightness)
    shade = cv2.resize(faces, (length, length), interpolation=cv2.INTER_AREA).astype(np.float32) / 100
    return Stencil(alpha, shade, left, top)


def outline(shape: str) -> list[np.ndarray]:
    """Contours (P, 2) of a shape in the unit circle, y downwards; a second contour is a hole."""
    match shape:
        case "circle":
            return [_regular(64)]
        case "square":
            return [_regular(4, 45.0)]
        case "triangle":
            return [_regular(3, -90.0)]
        case "hexagon":
            return [_regular(6)]
        case "cube":
            return [_regular(6, -90.0)]
        case "star":
            radii = np.where(np.arange(10) % 2, 0.42, 1.0)[:, None]
            return [_regular(10, -90.0) * radii]
        case "cross":
            w, e = 0.3, 0.95
            arm = np.array([(-w, -e), (w, -e), (w, -w)])
            return [np.concatenate([arm @ np.array([(c, s), (-s, c)]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))])]
        case "ring":
            return [_regular(64), _regular(64) * 0.52]
        case "heart":
            t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
            x = 16 * np.sin(t) ** 3
            y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
            return [np.stack([x, -y - 2.5], axis=1) / 17]
        case "crescent":
            # two circles; they meet at the angles +-a of the outer and +-b of the inner one
            shift, small = 0.5, 0.78
            a = math.acos((1 + shift**2 - small**2) / (2 * shift))
            b = math.acos((1 - shift**2 - small**2) / (2 * shift * small))
            outer, inner = np.linspace(a, 2 * np.pi - a, 48), np.linspace(2 * np.pi - b, b, 48)
            back = np.stack([small * np.cos(inner) + shift, small * np.sin(inner)], axis=1)
            return [np.concatenate([np.stack([np.cos(outer), np.sin(outer)], axis=1), back])]
        case "diamond":
            return [np.array([(0, -1.0), (0.6, 0), (0, 1.0), (-0.6, 0)])]
        case "arrow":
            return [np.array([(-1, -0.26), (0.1, -0.26), (0.1, -0.72), (1, 0), (0.1, 0.72), (0.1, 0.26), (-1, 0.26)])]
        case _:
            raise ValueError(f"unknown shape {shape!r}; known: {', '.join(SHAPES)}")


def _regular(corners: int, start: float = 0.0) -> np.ndarray:
    angles = np.radians(start) + np.arange(corners) * 2 * np.pi / corners
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _faces(shape: str) -> list[tuple[np.ndarray, float]]:
    """Faces of a thing with their brightness: a cube's three, else one from each edge to the middle, like a cut stone."""
    middle = np.zeros(2)
    if shape == "cube":
        corners = _regular(6, -90.0)
        return [
            (np.array([middle, corners[i], corners[i + 1], corners[(i + 2) % 6]]), brightness)
            for i, brightness in ((-1, 1.35), (3, 1.0), (1, 0.62))
        ]
    contour = outline(shape)[0]
    found = []
    for start, end in zip(contour, np.roll(contour, -1, axis=0), strict=True):
        length = max(float(np.linalg.norm(end - start)), 1e-6)
        outwards = np.array([end[1] - start[1], start[0] - end[0]]) / length
        found.append((np.array([middle, start, end]), float(1 + 0.3 * outwards @ _LIGHT)))
    return found


def paint(rng: np.random.Generator, scene: Scene, stencils: Sequence[Stencil]) -> Painting:
    """Draw stuff, then things from the farthest to the nearest, each with a soft shadow."""
    side = scene.side
    share = _horizon(rng, side)
    upper, lower = stuff_texture(rng, scene.upper, side), stuff_texture(rng, scene.lower, side)
    padded = upper + share[..., None] * (lower - upper)
    count = len(scene.things)
    ids = np.where(share >= 0.5, count + 2, count + 1).astype(np.uint8)
    for number, (thing, stencil) in enumerate(zip(scene.things, stencils, strict=True), start=1):
        inside, patch = _windows(stencil, side)
        alpha = stencil.alpha[patch][..., None]
        _shadow(padded, stencil, side)
        padded[inside] += alpha * (_surface(rng, thing, stencil)[patch] - padded[inside])
        ids[inside][alpha[..., 0] >= 0.5] = number
    return Painting(scene, np.clip(padded + 0.5, 0, 255).astype(np.uint8), ids)


def _horizon(rng: np.random.Generator, side: int) -> np.ndarray:
    """(H, W) share of the lower stuff: 0 above an oblique, wavy line, 1 below."""
    x = np.arange(side, dtype=np.float32) / side
    slope, height = rng.uniform(-0.25, 0.25), rng.uniform(0.35, 0.65)
    waves = rng.uniform(0, 0.03) * np.sin(2 * np.pi * (rng.uniform(1, 4) * x + rng.random()))
    line = (height + slope * (x - 0.5) + waves) * side
    return np.clip(np.arange(side, dtype=np.float32)[:, None] - line[None] + 0.5, 0, 1).astype(np.float32)


def _shadow(padded: np.ndarray, stencil: Stencil, side: int) -> None:
    offset = max(1, stencil.alpha.shape[0] // 16)
    moved = replace(stencil, left=stencil.left + offset, top=stencil.top + offset)
    inside, patch = _windows(moved, side)
    padded[inside] *= 1 - 0.35 * cv2.GaussianBlur(stencil.alpha, (0, 0), offset / 2 + 0.5)[patch][..., None]


def _surface(rng: np.random.Generator, thing: Thing, stencil: Stencil) -> np.ndarray:
    """(S, S, 3) colours of a thing: its own colour, texture, and light from the upper left."""
    length = stencil.alpha.shape[0]
    grid = (np.arange(length, dtype=np.float32) - length // 2) / thing.radius
    x, y = grid[None], grid[:, None]
    light = 1.0 - 0.13 * (x + y) - 0.06 * (x * x + y * y)
    brightness = light * stencil.shade * _texture(rng, thing.texture, x, y, thing.radius)
    colour = np.asarray(RGB[thing.colour], dtype=np.float32) + rng.uniform(-10, 10, 3).astype(np.float32)
    # Dark colours show their texture by an additive part.
    inner = brightness[..., None] * colour + 36 * (brightness[..., None] - 1)
    return np.asarray(inner * (1 - 0.8 * _rim(stencil)[..., None]))


def _rim(stencil: Stencil) -> np.ndarray:
    """(S, S) 1 on the outermost pixels of a thing, which are drawn dark as in a cartoon."""
    core = cv2.erode(stencil.alpha, np.ones((3, 3), np.uint8), iterations=2, borderValue=0)
    return np.clip(stencil.alpha - core, 0, 1)


def _texture(rng: np.random.Generator, texture: str, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    angle, phase = rng.uniform(0, np.pi), rng.random()
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    waves = min(2.5, radius / 6) * 2 * np.pi  # no finer than the pixels can show
    if texture == "stripes":
        return np.asarray(1 + 0.08 * np.tanh(3 * np.sin(waves * along + 6.28 * phase)))
    if texture == "dots":
        bumps = np.sin(waves * along + 6.28 * phase) * np.sin(waves * across)
        return np.asarray(1.03 - 0.13 / (1 + np.exp(-12 * (bumps - 0.35))))
    if texture == "noise":
        return 1 + 0.07 * _noise(rng, x.shape[1], max(3, x.shape[1] // 4))
    return np.ones((y.shape[0], x.shape[1]), dtype=np.float32)


def _noise(rng: np.random.Generator, side: int, rows: int, columns: int | None = None) -> np.ndarray:
    """(S, S) smooth noise of about unit variance from a coarse random grid."""
    coarse = rng.standard_normal((rows, columns or rows), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC))


def stuff_texture(rng: np.random.Generator, stuff: str, side: int) -> np.ndarray:
    """(H, W, 3) float32 colours of a kind of stuff, no two alike."""
    tint = rng.uniform(-12, 12, 3).astype(np.float32) + np.float32(rng.uniform(-12, 12))
    y, x = np.mgrid[:side, :side].astype(np.float32) * (128 / side)
    match stuff:
        case "grass":
            base, tone = (116, 146, 76), 15 * _noise(rng, side, side // 5, side // 2) + 8 * _noise(rng, side, 6)
        case "sand":
            ripples = np.sin(0.35 * y + 2 * _noise(rng, side, 4))
            base, tone = (212, 188, 142), 6 * ripples + 7 * _noise(rng, side, side)
        case "water":
            ripples = np.sin(0.55 * y + 1.5 * _noise(rng, side, 8, 4))
            base, tone = (78, 130, 158), 14 * ripples + 4 * _noise(rng, side, 12)
        case "sky":
            clouds = np.clip(_noise(rng, side, 4, 3) + 0.5 * _noise(rng, side, 9, 6), 0, 2)
            base, tone = (158, 198, 226), 0.12 * (y - 40) + 16 * clouds
        case "brick":
            base, tone = (166, 106, 88), _brick_tone(rng, x, y) + 5 * _noise(rng, side, side // 2)
        case "wood":
            grain = np.sin(0.5 * x + 2.5 * _noise(rng, side, 3, 12))
            base, tone = (146, 110, 76), 10 * grain + 6 * _noise(rng, side, 4, side // 2)
        case _:
            raise ValueError(f"unknown stuff {stuff!r}")
    return np.asarray(np.asarray(base, dtype=np.float32) + tint + tone[..., None].astype(np.float32))


def _brick_tone(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    y = y + np.float32(rng.uniform(0, 10))
    row = np.floor(y / 10).astype(np.int32)
    x = x + np.float32(rng.uniform(0, 20)) + 10 * (row % 2)
    column = np.floor(x / 20).astype(np.int32)
    bricks = rng.uniform(-14, 14, (row.max() + 1, column.max() + 1))
    return np.where((y % 10 < 1.6) | (x % 20 < 1.6), 42.0, bricks[row, column])
