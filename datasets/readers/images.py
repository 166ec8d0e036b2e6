"""Decoding one record: its pixels, and its regions as a compact map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from datasets.readers.classes import LabelImageKeys, numbers
from datasets.readers.coco import outline_mask
from datasets.records import Encoded, Record
from datasets.spec import DatasetSpec
from xdecoder.images import decode, rgb, upright
from xdecoder.types import Vocabulary


@dataclass(frozen=True)
class Regions:
    """Regions of one picture: as one map where they do not overlap, as one plane each where they may."""

    planes: np.ndarray  # (1, H, W) uint8 or int32 map: 0 = void, k + 1 = region k; or (N, H, W) bool
    labels: np.ndarray  # (N,) int64
    crowd: np.ndarray  # (N,) bool

    def masks(self, planes: np.ndarray | None = None, numbers: np.ndarray | None = None) -> np.ndarray:
        """(N, h, w) bool masks of all regions or of those with the given numbers, of `planes` after a transform if given."""
        planes = self.planes if planes is None else planes
        numbers = np.arange(len(self.labels)) if numbers is None else numbers
        if planes.dtype == bool:
            return planes if len(numbers) == len(planes) else planes[numbers]
        return np.asarray(planes == (numbers + 1).astype(planes.dtype)[:, None, None])

    def in_view(self, planes: np.ndarray) -> np.ndarray:
        """(N,) bool: which regions have a pixel in the transformed planes."""
        if planes.dtype == bool:
            return np.asarray(planes.any(axis=(1, 2)))
        return np.bincount(planes.ravel(), minlength=len(self.labels) + 1)[1:] > 0


def read_image(record: Record) -> np.ndarray:
    """(H, W, 3) uint8 RGB. The camera's orientation tag is obeyed only where no annotation is tied to stored pixels.

    Raises:
        ValueError: for a missing, truncated or too large file, or a size that differs from the annotation's.
    """
    image = _decoded(record.image, "picture")
    if record.id_map is None and record.regions is None and not record.references:
        image = upright(image)
    pixels = np.array(rgb(image, str(record.image)))
    stated = (record.height or pixels.shape[0], record.width or pixels.shape[1])
    if pixels.shape[:2] != stated:
        raise ValueError(f"{record.image}: is {_size(pixels)} pixels, but its annotation says {stated[1]}x{stated[0]}")
    return pixels


def read_regions(record: Record, spec: DatasetSpec, vocabulary: Vocabulary, size: tuple[int, int]) -> Regions:
    """The annotated regions at the picture's `size` (height, width); raises ValueError naming the file at fault."""
    if record.regions is None:
        assert record.id_map is not None
        return _label_image(record.id_map, spec, vocabulary, size)
    labels = np.array([region.label for region in record.regions], dtype=np.int64)
    crowd = np.array([region.crowd for region in record.regions], dtype=bool)
    if record.id_map is not None:
        return Regions(_panoptic(record, record.id_map, size), labels, crowd)
    where = f"data set {spec.name!r}, picture {record.id}"
    masks = [outline_mask(region.outline, *size, where=where) for region in record.regions]
    return Regions(np.stack(masks) if masks else np.zeros((0, *size), dtype=bool), labels, crowd)


def _panoptic(record: Record, path: Path, size: tuple[int, int]) -> np.ndarray:
    image = _decoded(path, "panoptic PNG")
    if image.mode not in ("RGB", "RGBA"):
        raise ValueError(f"{path}: is a {image.mode} image; a panoptic PNG is RGB (id = R + 256 G + 65536 B)")
    colours = np.array(image if image.mode == "RGB" else image.convert("RGB"))  # not what a picture would be made of RGBA
    _check_size(path, colours, size)
    ids = cv2.cvtColor(colours, cv2.COLOR_RGB2RGBA).view("<u4")[..., 0] & 0xFFFFFF  # a pixel's four bytes as one number
    listed = np.array([region.id for region in record.regions or ()], dtype=np.int64)
    number_of = np.zeros(1 << 24, dtype=np.uint8 if len(listed) < 256 else np.int32)  # untouched pages cost nothing
    number_of[listed] = np.arange(1, len(listed) + 1)
    numbers = number_of.take(ids)
    void = ids[numbers == 0]
    if void.any():
        raise ValueError(f"{path}: holds id {void[void != 0][0]}, which its JSON's segments_info does not list")
    absent = listed[np.bincount(numbers.ravel(), minlength=len(listed) + 1)[1:] == 0]
    if len(absent):
        raise ValueError(f"{path}: holds no pixel of id {absent[0]}, which its JSON's segments_info lists")
    return numbers[None]


def read_label_map(path: Path, spec: DatasetSpec, vocabulary: Vocabulary, size: tuple[int, int]) -> np.ndarray:
    """(H, W) int64 class of each pixel of a label image, -1 where it has none; raises ValueError naming the file."""
    regions = _label_image(path, spec, vocabulary, size)
    return np.concatenate([[-1], regions.labels])[regions.planes[0]]


def _label_image(path: Path, spec: DatasetSpec, vocabulary: Vocabulary, size: tuple[int, int]) -> Regions:
    values = np.array(_decoded(path, "label image"))
    _check_size(path, values, size)
    if values.ndim != 2:
        raise ValueError(f"{path}: has {values.shape[2]} channels; a label image has one, of class numbers")
    found = np.flatnonzero(np.bincount(values.ravel()))
    label_of = numbers(spec, len(vocabulary))
    labels = np.array([label_of.get(int(value), -1) for value in found])
    assert isinstance(spec, LabelImageKeys)
    ignored = found == (spec.ignore_value if isinstance(spec.ignore_value, int) else -1)
    known = (labels >= 0) & ~ignored
    wrong = found[~known & ~ignored]
    if len(wrong) and spec.ignore_value != "others":
        also = "" if spec.ignore_value is None else f", or {spec.ignore_value} to ignore"
        raise ValueError(f"{path}: holds value {wrong[0]}; expected {min(label_of)} to {max(label_of)}{also}")
    number_of = np.zeros(int(found[-1]) + 1, dtype=np.uint8 if known.sum() < 256 else np.int32)
    number_of[found] = np.where(known, np.cumsum(known), 0)
    kept = labels[known].astype(np.int64)
    return Regions(number_of[values][None], kept, np.zeros(len(kept), dtype=bool))


def read_mask_image(path: Path, size: tuple[int, int]) -> np.ndarray:
    """(H, W) values of a mask image: palette indices or greys, of several channels the brightest."""
    values = np.array(_decoded(path, "mask image"))
    _check_size(path, values, size)
    return values if values.ndim == 2 else np.asarray(values[..., :3].max(axis=2))


def _decoded(source: Path | Encoded, what: str) -> Image.Image:
    return decode(source.data, what, source.where) if isinstance(source, Encoded) else decode(source, what)


def _check_size(path: Path, pixels: np.ndarray, size: tuple[int, int]) -> None:
    if pixels.shape[:2] != size:
        raise ValueError(f"{path}: is {_size(pixels)} pixels, but its picture is {size[1]}x{size[0]}")


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
