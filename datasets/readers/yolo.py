"""Ultralytics' YOLO segmentation: beside each picture's folder one of text files, a line an object.

A line reads `class x1 y1 x2 y2 …`, the corners of one polygon as shares of width and height.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from PIL import Image

from datasets.readers.classes import ClassKeys
from datasets.readers.label_images import images_in
from datasets.records import Record, Region
from datasets.spec import DatasetSpec, Part
from xdecoder.files import read_lines
from xdecoder.types import Vocabulary

_ORIENTATION = 0x0112  # EXIF


class YoloSpec(ClassKeys, DatasetSpec):
    """A text file of polygons per picture."""

    folder_keys: ClassVar[tuple[str, ...]] = ("images", "labels")

    reader: Literal["yolo"] = "yolo"

    labels: str
    """Folder of the text files."""

    def provides(self) -> frozenset[Part]:
        return frozenset({"regions"})

    def read(self, root: Path) -> tuple[Vocabulary, list[Record]]:
        """Records of all pictures; one without a text file has no object."""
        classes = self.class_names(root)
        images, labels = images_in(root / self.images), root / self.labels
        texts = {path.stem: path for path in labels.glob("*.txt") if path.name != "classes.txt"}
        strange = sorted(set(texts) - {path.stem for path in images})
        if strange:
            raise ValueError(f"{texts[strange[0]]}: labels a picture that {root / self.images} does not hold")
        if images and not texts:
            raise ValueError(f"{labels}: holds no .txt file; each picture of {root / self.images} needs its labels there")
        return classes, [_record(path, texts.get(path.stem), len(classes)) for path in images]


def _record(picture: Path, text: Path | None, classes: int) -> Record:
    width, height = _size(picture)
    lines = [] if text is None else list(enumerate(read_lines(text), start=1))
    regions = tuple(_region(line, f"{text}: line {number}", classes, width, height) for number, line in lines)
    return Record(id=picture.stem, image=picture, height=height, width=width, regions=regions)


def _region(line: str, where: str, classes: int, width: int, height: int) -> Region:
    try:
        label, *shares = (float(word) for word in line.split())
    except ValueError:
        raise ValueError(f"{where}: should hold a class number and coordinates, not {line[:40]!r}") from None
    if label != int(label) or not 0 <= label < classes:
        raise ValueError(f"{where}: its class is {label:g}; expected a whole number from 0 to {classes - 1}")
    if len(shares) == 4:
        raise ValueError(f"{where}: holds a box (centre and size); segmentation needs polygons of three corners or more")
    if len(shares) < 6 or len(shares) % 2:
        raise ValueError(f"{where}: has {len(shares)} coordinates; a polygon has an even number, at least 6")
    if not all(-0.001 <= share <= 1.001 for share in shares):
        raise ValueError(f"{where}: a coordinate is {max(shares, key=abs):g}; they are shares of width and height, 0 to 1")
    corners = [share * (height if i % 2 else width) for i, share in enumerate(shares)]
    return Region(int(label), outline=[corners])


def _size(path: Path) -> tuple[int, int]:
    """Width and height from the picture's header."""
    try:
        with Image.open(path) as image:
            turned, size = image.getexif().get(_ORIENTATION, 1), image.size
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path}: the picture is damaged or incomplete ({error}); fetch it again") from None
    if turned != 1:
        raise ValueError(f"{path}: is stored turned (EXIF orientation {turned}), so no polygon is sure; save it upright")
    return size
