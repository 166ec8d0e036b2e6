"""Ultralytics' YOLO segmentation: for each picture a text file, a line an object.

A line reads `class x1 y1 x2 y2 …`, the corners of one polygon as shares of width and height.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from datasets.findings import Findings, refuse
from datasets.readers.classes import ClassKeys, numbers, unlabelled
from datasets.readers.names import check_unread, ids_of
from datasets.records import Contents, Record, Region
from datasets.spec import DatasetSpec, Part
from xdecoder.files import files_below, images_below, numbered_lines, read_lines, shown
from xdecoder.images import read_header
from xdecoder.types import Vocabulary

_BEYOND = 0.001  # how far outside of its picture rounding may put a corner
_EXPORT = "mend these lines, or export the labels again as YOLO segmentation"


class YoloSpec(ClassKeys, DatasetSpec):
    """A text file of polygons per picture."""

    folder_keys: ClassVar[tuple[str, ...]] = ("images", "labels")

    reader: Literal["yolo"] = "yolo"

    labels: str | None = None
    """Folder of the text files; by default each lies where `labels` stands for the last `images` in the picture's path."""

    lists: tuple[str, ...] = ()
    """Folders and text files that list the pictures to take; by default all of `images`."""

    def provides(self) -> frozenset[Part]:
        return frozenset({"regions"})

    def read(self, root: Path) -> Contents:
        """Records of all pictures; one without a text file has no object.

        Of a photograph that is stored turned nobody knows which way up its polygons are; it is refused when its turn comes.
        """
        classes, home = self.class_names(root), root / self.images
        found = Findings()
        pictures = list(dict.fromkeys(self._pictures(root)))
        inside = f"{home}{os.sep}"
        names = [str(picture).removeprefix(inside) for picture in pictures]
        labels = root / self.labels if self.labels else None
        texts = {
            picture: _beside(picture) if labels is None or name == str(picture) else labels / f"{os.path.splitext(name)[0]}.txt"
            for picture, name in zip(pictures, names, strict=True)
        }
        there = {picture: text for picture, text in texts.items() if text.exists()}
        for entry in (entry for entry in self.lists or (self.images,) if (root / entry).is_dir()):
            check_unread(root / entry, found)
        if self.lists and not pictures:
            raise refuse(f"{root / self.lists[0]}: lists no picture", "name a picture a line, or a folder that holds some")
        if self.lists and not any(picture.is_file() for picture in pictures):
            what = f"{pictures[0]}: no such picture, nor any other that {root / self.lists[0]} lists"
            raise refuse(what, "paths are read from where the list lies, or from the set's own folder")
        if pictures and not there:
            folder = texts[pictures[0]].parent
            found.add("texts", f"{folder}: holds no .txt file; each picture of {pictures[0].parent} needs its labels there")
        if labels is not None and not self.lists:
            _check_pictures(labels, set(there.values()), home, found)
        reading = _Lines(classes, self, found)
        ids = ids_of([name.replace(os.sep, "/") for name in names])
        records = [reading.record(key, path, there.get(path)) for key, path in zip(ids, pictures, strict=True)]
        if there and not any(record.regions for record in records) and not found.told():
            folder = next(iter(there.values())).parent
            found.add(
                "nothing", f"{folder}: its {len(there)} .txt files hold no object; nothing can be learnt from them", _EXPORT
            )
        return Contents(classes, records, found.told())

    def _pictures(self, root: Path) -> Iterator[Path]:
        for entry in self.lists or (self.images,):
            path = root / entry
            if path.is_dir():
                yield from (path / name for name in images_below(path))
                continue
            for line in read_lines(path):
                name = Path(line.replace("\\", "/"))
                homes = (path.parent, root / self.images)
                yield next((home / name for home in homes if (home / name).is_file()), path.parent / name)


def _beside(picture: Path) -> Path:
    """`labels` stands for the last `images` in its path."""
    parts = list(picture.parts)
    places = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def _check_pictures(labels: Path, known: set[Path], home: Path, found: Findings) -> None:
    for name in files_below(labels):
        if name.endswith(".txt") and PurePosixPath(name).name != "classes.txt" and labels / name not in known:
            what = f"{labels / name}: labels a picture that {home} does not hold"
            found.add("pictures", what, "add the picture, or remove its labels")


class _Lines:
    """Reads the lines of text files, and takes note of what is wrong with them."""

    def __init__(self, classes: Vocabulary, spec: YoloSpec, found: Findings) -> None:
        self.classes, self.found = classes, found
        self.label_of, self.unlabelled = numbers(spec, len(classes)), unlabelled(spec)

    def record(self, key: str, picture: Path, text: Path | None) -> Record:
        try:
            header = read_header(picture)
        except ValueError:
            return Record(id=key, image=picture, regions=())  # whoever decodes it is told the same
        width, height = header.upright
        regions = []
        for number, line in self._lines(text):
            region = self._region(line, f"{text}: line {number}", width, height)
            if region is not None:
                regions.append(region)
        return Record(id=key, image=picture, regions=tuple(regions), turn="unknown")

    def _lines(self, text: Path | None) -> list[tuple[int, str]]:
        try:
            return [] if text is None else numbered_lines(text)
        except ValueError as error:
            self.found.add("text", str(error), _EXPORT)
            return []

    def _region(self, line: str, where: str, width: int, height: int) -> Region | None:
        fault, words = None, line.split()
        try:
            label, *shares = map(float, words)
        except ValueError:
            self.found.add("words", f"{where}: should hold a class number and coordinates, not {shown(line, 40)}", _EXPORT)
            return None
        number = int(label) if math.isfinite(label) and label == int(label) else -1
        known = number in self.label_of
        if not known and number not in self.unlabelled:
            most = max(self.label_of | dict.fromkeys(self.unlabelled, 0))
            fault = "class", f"its class is {label:g}; expected a whole number from 0 to {most}"
        elif len(shares) == 4:
            fault = "box", "holds a box (centre and size); segmentation needs polygons of three corners or more"
        elif len(shares) < 6 or len(shares) % 2:
            fault = "count", f"has {len(shares)} coordinates; a polygon has an even number, at least 6"
        elif not math.isfinite(sum(shares)):
            fault = "finite", "a coordinate is not a finite number"
        elif not -_BEYOND <= min(shares) <= max(shares) <= 1 + _BEYOND:
            fault = "range", f"a coordinate is {max(shares, key=abs):g}; they are shares of width and height, 0 to 1"
        name = self.classes.names[self.label_of[number]] if known else None
        if fault:
            self.found.add(fault[0], f"{where}: {fault[1]}", _EXPORT, label=name)
            return None
        if not known:
            what = f"{where}: is of class {number}, background, which is no class, and is left out"
            self.found.add("background", what, "leave background out of the classes", fatal=False)
            return None
        corners = shares
        corners[::2], corners[1::2] = [share * width for share in shares[::2]], [share * height for share in shares[1::2]]
        return Region(self.label_of[number], outline=[corners])
