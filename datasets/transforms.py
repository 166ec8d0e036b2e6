"""Resizing, mirroring, cropping and padding a picture together with its maps.

A transform's settings draw a `View`, the geometry; the view is then applied to pixels (bilinear, antialiased, as Pillow does)
and to maps (nearest). Everything random comes from the generator that is handed in.

Pictures to measure on are resized by Pillow itself, as published. Those to learn from are resized by whatever is fastest and
agrees with Pillow but for rounding: `benchmarks/loader_lsj.py` says what that gains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import Field, model_validator
from torch import Tensor

from xdecoder.config import Config
from xdecoder.resizing import ShortestEdge, ShortestSide, Stretch

PADDING = 128  # grey that the published crop puts beside the picture; maps get 0 there

Probability = Annotated[float, Field(ge=0, le=1)]
Pixels = Annotated[int, Field(gt=0)]
Factor = Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class View:
    """A picture resized, perhaps mirrored, then cropped, and padded at the right and the bottom. Sizes: (height, width)."""

    resized: tuple[int, int]
    size: tuple[int, int]
    corner: tuple[int, int] = (0, 0)
    mirrored: bool = False
    bicubic: bool = False

    def image(self, pixels: np.ndarray, exact: bool = True) -> np.ndarray:
        """(H, W, 3) uint8 -> (h, w, 3) uint8; `exact`: to the bit what Pillow gives, otherwise within two of its 256 levels."""
        if pixels.shape[:2] != self.resized:
            pixels = (_resize_like_pillow if exact else _resize_fast)(pixels, self.resized, self.bicubic)
        (top, left), (height, width) = self.corner, self.size
        right = min(left + width, self.resized[1])
        if self.mirrored:
            left, right = self.resized[1] - right, self.resized[1] - left
        seen = pixels[top : top + height, left:right]
        if self.mirrored:
            seen = cv2.flip(seen, 1)
        if seen.shape[:2] == self.size:
            return np.ascontiguousarray(seen)
        padded = np.full((height, width, 3), PADDING, dtype=np.uint8)
        padded[: seen.shape[0], : seen.shape[1]] = seen
        return padded

    def maps(self, maps: np.ndarray) -> np.ndarray:
        """(N, H, W) of any type -> (N, h, w), nearest neighbour; 0 or False in the padding."""
        if maps.shape[1:] == self.resized == self.size and not self.mirrored:
            return maps
        rows = self._source(0, maps.shape[1])
        columns = self._source(1, maps.shape[2])
        out = np.zeros((len(maps), *self.size), dtype=maps.dtype)
        for plane, shown in zip(out, maps, strict=True):
            low, high = int(rows[0]), int(rows[-1]) + 1
            wide = shown[low:high].take(columns, axis=1)  # the costlier axis first, before rows repeat
            np.take(wide, rows - low, axis=0, out=plane[: len(rows), : len(columns)], mode="clip")
        return out

    def _source(self, axis: int, length: int) -> np.ndarray:
        """Which row or column of the original each one of the view shows: the one its centre falls on."""
        start, resized = self.corner[axis], self.resized[axis]
        places = np.arange(start, min(start + self.size[axis], resized))
        if axis == 1 and self.mirrored:
            places = resized - 1 - places
        return (2 * places + 1) * length // (2 * resized)


class LargeScaleJitter(Config):
    """Resize to a random scale of a square, then a square crop (published for segmentation: size 1024, scale 0.1 to 2)."""

    name: Literal["lsj"] = "lsj"
    size: Pixels = 1024
    """Side of the square that comes out."""
    min_scale: Factor = 0.1
    max_scale: Factor = 2.0
    """The picture is fitted into a square of `size` times a scale drawn from this range."""
    flip: Probability = 0.5
    """Chance of mirroring left and right."""
    colour: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Strength of random brightness, contrast and saturation, as a share; 0 = none (published)."""

    @model_validator(mode="after")
    def _check(self) -> LargeScaleJitter:
        _check_scales(self.min_scale, self.max_scale)
        return self

    def view(self, size: tuple[int, int], rng: np.random.Generator) -> View:
        mirrored = bool(rng.random() < self.flip)
        side = self.size * rng.uniform(self.min_scale, self.max_scale)
        factor = side / max(size)
        resized = (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))
        share = rng.random()  # one number for both axes, as published
        corner = (round(max(resized[0] - self.size, 0) * share), round(max(resized[1] - self.size, 0) * share))
        return View(resized, (self.size, self.size), corner, mirrored)


class RandomCrop(Config):
    """A rectangular window of the picture at a random scale, for sets of one aspect such as CamVid."""

    name: Literal["crop"] = "crop"
    size: tuple[Pixels, Pixels]
    """Height and width that come out."""
    min_scale: Factor = 0.5
    max_scale: Factor = 2.0
    """Range of the scale, relative to the picture's own size."""
    shorter_side: Pixels | None = None
    """Relative to the picture at this shorter side instead."""
    flip: Probability = 0.5
    """Chance of mirroring left and right."""
    colour: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Strength of random brightness, contrast and saturation, as a share."""

    @model_validator(mode="after")
    def _check(self) -> RandomCrop:
        _check_scales(self.min_scale, self.max_scale)
        return self

    def view(self, size: tuple[int, int], rng: np.random.Generator) -> View:
        mirrored = bool(rng.random() < self.flip)
        scale = rng.uniform(self.min_scale, self.max_scale)
        if self.shorter_side is not None:
            scale *= self.shorter_side / min(size)
        resized = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        top = int(rng.integers(max(resized[0] - self.size[0], 0) + 1))
        left = int(rng.integers(max(resized[1] - self.size[1], 0) + 1))
        return View(resized, self.size, (top, left), mirrored)


class Square(Config):
    """Resize to a square whatever the aspect, bicubic, as published for questions."""

    name: Literal["square"] = "square"
    size: Pixels = 640
    flip: Probability = 0.0
    """Chance of mirroring left and right; in questions and their answers these words then change places."""
    blank: bool = False
    """Show grey in place of every picture: what can be told without looking."""

    def view(self, size: tuple[int, int], rng: np.random.Generator) -> View:
        mirrored = self.flip > 0 and bool(rng.random() < self.flip)
        return View((self.size, self.size), (self.size, self.size), mirrored=mirrored, bicubic=True)


TransformConfig = Annotated[
    LargeScaleJitter | RandomCrop | Square | ShortestEdge | ShortestSide | Stretch, Field(discriminator="name")
]


def view_of(
    config: LargeScaleJitter | RandomCrop | Square | ShortestEdge | ShortestSide | Stretch,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> View:
    """What is to be seen of a picture of this height and width."""
    if isinstance(config, (LargeScaleJitter, RandomCrop, Square)):
        return config.view(size, rng)
    height, width = config.shape(size)
    crop = config.crop if isinstance(config, ShortestSide) else None
    if crop is None:
        return View((height, width), (height, width), bicubic=config.bicubic)
    corner = (round((height - crop) / 2), round((width - crop) / 2))
    return View((height, width), (crop, crop), (max(corner[0], 0), max(corner[1], 0)), bicubic=config.bicubic)


class Transform:
    """Applies one random view, and colour jitter if asked for.

    Args:
        config: the settings.
        exact: see `View.image`.
    """

    def __init__(
        self, config: LargeScaleJitter | RandomCrop | Square | ShortestEdge | ShortestSide | Stretch, exact: bool = True
    ) -> None:
        self.config, self.exact = config, exact

    def view(self, pixels: np.ndarray, rng: np.random.Generator) -> View:
        """The geometry of one random view of a picture (H, W, 3)."""
        return view_of(self.config, (pixels.shape[0], pixels.shape[1]), rng)

    def __call__(
        self, pixels: np.ndarray, maps: list[np.ndarray], rng: np.random.Generator, view: View | None = None
    ) -> tuple[Tensor, list[np.ndarray]]:
        """Transform a picture and its maps alike.

        Args:
            pixels: (H, W, 3) uint8 RGB.
            maps: arrays (N, H, W) of any type; none at evaluation, where labels stay at the original size.
            rng: where everything random comes from.
            view: the geometry, if it was drawn already.

        Returns:
            (3, h, w) uint8 picture and the maps at its size.
        """
        view = view or self.view(pixels, rng)
        if isinstance(self.config, (LargeScaleJitter, RandomCrop)) and self.config.colour:
            pixels = _jitter(pixels, self.config.colour, rng)
        if isinstance(self.config, Square) and self.config.blank:
            pixels = np.full_like(pixels, PADDING)
        return _planes(view.image(pixels, self.exact)), [view.maps(each) for each in maps]


def _resize_like_pillow(pixels: np.ndarray, size: tuple[int, int], bicubic: bool) -> np.ndarray:
    filter_ = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], filter_))


def _resize_fast(pixels: np.ndarray, size: tuple[int, int], bicubic: bool) -> np.ndarray:
    """OpenCV enlarges fastest, but does not filter when it shrinks; torch does both."""
    if size[0] >= pixels.shape[0] and size[1] >= pixels.shape[1]:
        return cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_CUBIC if bicubic else cv2.INTER_LINEAR)
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    resized = F.interpolate(planes, size=size, mode="bicubic" if bicubic else "bilinear", antialias=True)
    return np.asarray(resized[0].permute(1, 2, 0).numpy())


def _planes(pixels: np.ndarray) -> Tensor:
    """(h, w, 3) -> (3, h, w)."""
    planes = np.empty((3, *pixels.shape[:2]), dtype=np.uint8)
    cv2.split(pixels, list(planes))
    return torch.from_numpy(planes)


def _jitter(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast and saturation, each times 1 +- `strength`, as one affine map of the colours."""
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3)
    luma = np.array([0.299, 0.587, 0.114])
    mix = saturation * np.eye(3) + (1 - saturation) * luma
    shift = (1 - contrast) * float(image[::4, ::4].mean())
    return np.asarray(cv2.transform(image, np.hstack([contrast * brightness * mix, np.full((3, 1), brightness * shift)])))


def _check_scales(low: float, high: float) -> None:
    if low > high:
        raise ValueError(f"min_scale {low} is larger than max_scale {high}")
