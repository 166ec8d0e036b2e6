"""Decoding one record: its pixels, and its regions as a compact map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from datasets.findings import refuse
from datasets.outlines import outline_mask, parse
from datasets.readers.classes import LabelImageKeys, numbers, unlabelled
from datasets.readers.label_images import LabelImagesSpec
from datasets.records import Encoded, Record
from datasets.spec import DatasetSpec
from xdecoder.images import decode, orientation, read_header, rgb, upright
from xdecoder.types import Vocabulary

MOST_CLASSES = 65_535
_RELEASE = "PNG and JSON are not of one release; fetch both again"


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
    """(H, W, 3) uint8 RGB, the way up that its annotations are drawn; upright where there are none.

    Raises:
        ValueError: for a missing, truncated or too large file, a size that differs from the annotation's, or a photograph that
            is stored turned where nothing tells which way up it was annotated.
    """
    image = _decoded(record.image, "picture")
    turned = orientation(image)
    stored = (image.height, image.width)
    displayed = (image.width, image.height) if turned >= 5 else stored
    if turned > 1 and _is_drawn_upright(record, stored, displayed, turned):
        image = upright(image)
    pixels = np.array(rgb(image, str(record.image)))
    stated = (record.height or pixels.shape[0], record.width or pixels.shape[1])
    if pixels.shape[:2] != stated and not (turned >= 5 and stated == stored):
        told = f" (stored turned, EXIF orientation {turned})" if turned > 1 else ""
        what = f"{record.image}: is {_size(pixels)} pixels{told}, but its annotation says {stated[1]}x{stated[0]}"
        raise refuse(what, "use the pictures that were annotated; others of the same name, or resized ones, do not fit")
    return pixels


def _is_drawn_upright(record: Record, stored: tuple[int, int], displayed: tuple[int, int], turned: int) -> bool:
    """Whether a photograph that is stored turned was annotated as it is displayed; sizes are (height, width)."""
    if record.id_map is None and record.regions is None and not record.references:
        return True
    if stored != displayed and (record.height, record.width) == displayed:
        return True
    if record.turn in ("stored", "displayed"):
        return record.turn == "displayed"
    reached = _extent(record) if record.turn == "told" else (0.0, 0.0)
    fits_stored, fits_displayed = (all(r <= s + 1 for r, s in zip(reached, size, strict=True)) for size in (stored, displayed))
    if fits_stored == fits_displayed:
        size = f"of {stored[1]}x{stored[0]} pixels"
        what = f"{record.image}: is stored turned (EXIF orientation {turned}), {size}, and nothing tells which way up its"
        raise refuse(f"{what} annotations are; save it upright", "save such pictures upright and look where their outlines are")
    return fits_displayed


def _extent(record: Record) -> tuple[float, float]:
    """How far down and to the right the annotations of a picture reach; a label image or run lengths fill its size."""
    if record.id_map is not None:
        header = read_header(record.id_map, "label image")
        return header.height, header.width
    down = right = 0.0
    outlines = [region.outline for region in record.regions or ()] + [reference.outline for reference in record.references]
    for part in (part for outline in outlines for part in parse(outline)):
        if isinstance(part, dict):
            down, right = max(down, part["size"][0]), max(right, part["size"][1])
        else:
            down, right = max(down, *part[1::2]), max(right, *part[::2])
    return down, right


def read_regions(record: Record, spec: DatasetSpec, vocabulary: Vocabulary, size: tuple[int, int]) -> Regions:
    """The annotated regions at the picture's `size` (height, width); raises ValueError naming the file at fault."""
    if record.regions is None:
        assert record.id_map is not None
        return _label_image(record.id_map, spec, vocabulary, size)
    labels = np.array([region.label for region in record.regions], dtype=np.int64)
    crowd = np.array([region.crowd for region in record.regions], dtype=bool)
    if record.id_map is not None:
        classed = labels >= 0
        return Regions(_panoptic(record, record.id_map, size), labels[classed], crowd[classed])
    where = where_of(spec, record)
    masks = [outline_mask(region.outline, *size, where=where) for region in record.regions]
    return Regions(np.stack(masks) if masks else np.zeros((0, *size), dtype=bool), labels, crowd)


def where_of(spec: DatasetSpec, record: Record) -> str:
    """How messages name a picture."""
    return f"data set {spec.name!r}, picture {record.id}"


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
        raise refuse(f"{path}: holds id {void[void != 0][0]}, which its JSON's segments_info does not list", _RELEASE)
    absent = listed[np.bincount(numbers.ravel(), minlength=len(listed) + 1)[1:] == 0]
    if len(absent):
        raise refuse(f"{path}: holds no pixel of id {absent[0]}, which its JSON's segments_info lists", _RELEASE)
    classed = np.array([region.label >= 0 for region in record.regions or ()], dtype=bool)
    if not classed.all():  # what is called background becomes void
        numbers = np.concatenate([[0], np.where(classed, np.cumsum(classed), 0)]).astype(numbers.dtype)[numbers]
    return numbers[None]


def read_label_map(path: Path, spec: DatasetSpec, vocabulary: Vocabulary, size: tuple[int, int]) -> np.ndarray:
    """(H, W) int64 class of each pixel of a label image, -1 where it has none; raises ValueError naming the file."""
    regions = _label_image(path, spec, vocabulary, size)
    return np.concatenate([[-1], regions.labels])[regions.planes[0]]


def _label_image(path: Path, spec: DatasetSpec, vocabulary: Vocabulary, size: tuple[int, int]) -> Regions:
    assert isinstance(spec, LabelImageKeys)
    values = _label_values(path, spec, size)
    found = np.flatnonzero(np.bincount(values.ravel()))
    label_of, none = numbers(spec, len(vocabulary)), unlabelled(spec)
    labels = np.array([label_of.get(int(value), -1) for value in found])
    ignored = np.isin(found, list(none))
    known = (labels >= 0) & ~ignored
    wrong = found[~known & ~ignored]
    if len(wrong) and spec.ignore_value != "others":
        also = f", or {' or '.join(map(str, sorted(none)))}, which is unlabelled" if none else ""
        what = f"{path}: holds value {wrong[0]}; expected {min(label_of)} to {max(label_of)}{also}"
        raise refuse(what, "the labels are of another class list or numbering; compare them with the set's classes")
    number_of = np.zeros(int(found[-1]) + 1, dtype=np.uint8 if known.sum() < 256 else np.int32)
    number_of[found] = np.where(known, np.cumsum(known), 0)
    kept = labels[known].astype(np.int64)
    return Regions(number_of[values][None], kept, np.zeros(len(kept), dtype=bool))


def _label_values(path: Path, spec: LabelImageKeys, size: tuple[int, int]) -> np.ndarray:
    """(H, W) numbers of a label image, whichever way they are stored."""
    image = _decoded(path, "label image")
    colours = spec.colours if isinstance(spec, LabelImagesSpec) else None
    values = np.array(image.convert("RGB") if colours else image)
    _check_size(path, values, size)
    if colours:
        return _of_colours(path, values, colours)
    if values.ndim == 3 and (values[..., :3] == values[..., :1]).all():
        values = values[..., 0]  # grey that was saved as colours
    if values.ndim != 2:
        what = f"{path}: has {values.shape[2]} channels; a label image has one, of class numbers"
        raise refuse(what, "store class numbers as a grey or palette PNG, not colours")
    if values.dtype == bool:
        return values.astype(np.uint8)
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > MOST_CLASSES:
        raise ValueError(
            f"{path}: holds {values.dtype} from {values.min()} to {values.max()}; class numbers are 0 to {MOST_CLASSES}"
        )
    return values


def _of_colours(path: Path, pixels: np.ndarray, colours: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    """(H, W) which of the colours each pixel has."""
    codes = pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)
    known = np.array(colours, dtype=np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)
    order = np.argsort(known)
    place = np.searchsorted(known[order], codes).clip(max=len(known) - 1)
    strange = codes != known[order][place]
    if strange.any():
        red, green, blue = pixels[strange][0]
        raise ValueError(f"{path}: holds colour {red},{green},{blue}, which no class has")
    return np.asarray(order[place])


def read_mask_image(path: Path, size: tuple[int, int]) -> np.ndarray:
    """(H, W) values of a mask image: palette indices or greys, of several channels the brightest."""
    values = np.array(_decoded(path, "mask image"))
    _check_size(path, values, size)
    return values if values.ndim == 2 else np.asarray(values[..., :3].max(axis=2))


def _decoded(source: Path | Encoded, what: str) -> Image.Image:
    return decode(source.data, what, source.where) if isinstance(source, Encoded) else decode(source, what)


def _check_size(path: Path, pixels: np.ndarray, size: tuple[int, int]) -> None:
    if pixels.shape[:2] != size:
        what = f"{path}: is {_size(pixels)} pixels, but its picture is {size[1]}x{size[0]}"
        raise refuse(what, "picture and label image must be of one size; make or fetch the labels again")


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
