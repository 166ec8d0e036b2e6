"""Semantic sets: a picture and a PNG of class numbers, or of colours that stand for classes."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from datasets.findings import Findings
from datasets.readers.classes import ClassKeys, LabelImageKeys, is_background, renamed
from datasets.readers.names import check_unread, ids_of
from datasets.records import Contents, Record, Turn
from datasets.spec import DatasetSpec, Part, Rename, needs
from xdecoder.files import images_below, numbered_lines

Level = Annotated[int, Field(ge=0, le=255)]


class LabelImagesSpec(LabelImageKeys, ClassKeys, DatasetSpec):
    """A label PNG per picture, one region a class."""

    file_keys: ClassVar[tuple[str, ...]] = ("split",)
    folder_keys: ClassVar[tuple[str, ...]] = ("images", "labels")

    reader: Literal["label_images"] = "label_images"

    split: str | None = None
    """List file: rows of a picture and its label image, or pictures' paths, which may lack the suffix."""

    image_rename: Rename = ()
    """How a picture's path in `images` follows from the row of the list file."""

    pair_by_order: bool = False
    """Whether the k-th picture belongs to the k-th label image, whatever their names."""

    only_labelled: bool = False
    """Whether pictures without a label image are left out, or are an error."""

    colours: tuple[tuple[Level, Level, Level], ...] | None = None
    """Red, green and blue of each of `classes` in label images that are painted in colours."""

    turn: Turn = "stored"
    """As in COCO's sets: which way up label images are, beside photographs that are stored turned."""

    @model_validator(mode="after")
    def _check(self) -> LabelImagesSpec:
        needs(self, "split", "labels")
        if self.colours is not None and len(self.colours) != len(self.classes or ()):
            raise ValueError(f"data set {self.name!r}: colours are one each of the {len(self.classes or ())} `classes`")
        return self

    def without_ignored(self, names: list[str]) -> list[str]:
        background = sum(map(is_background, self.classes)) if isinstance(self.classes, tuple) else 0
        named = isinstance(self.ignore_value, int) and self.ignore_value - self.label_offset == len(names) + background - 1
        return names[:-1] if named else names

    def provides(self) -> frozenset[Part]:
        return frozenset({"regions"})

    def read(self, root: Path) -> Contents:
        """Pairs from the list file, or of the pictures in a folder and its folders; names agree as `label_rename` says."""
        images, labels = root / self.images, root / (self.labels or self.images)
        pairs = _listed(self, root) if self.split else _paired(self, images, labels)
        ids = ids_of([name for name, _ in pairs])
        found = Findings()
        if not self.split:
            check_unread(images, found)
        if not (self.split or self.pair_by_order or self.only_labelled) and images != labels:
            paired = {label for _, label in pairs}
            for name in images_below(labels):
                if name not in paired:
                    what = f"{labels / name}: belongs to no picture of {images} and is left out"
                    found.add("pictures", what, "add the picture, or remove its label image", fatal=False)
        rows = zip(ids, pairs, strict=True)
        records = [Record(key, images / name, id_map=labels / label, turn=self.turn) for key, (name, label) in rows]
        return Contents(self.class_names(root), records, found.told())


def _listed(spec: LabelImagesSpec, root: Path) -> list[tuple[str, str]]:
    """Rows of a picture and its label image, or of the picture alone (without its suffix, as in Pascal VOC)."""
    path = root / str(spec.split)
    by_stem: dict[str, str] = {}
    pairs = []
    for number, line in numbered_lines(path):
        names = line.split()
        if spec.image_rename:
            name = renamed(line, spec.image_rename)
            names = [name, renamed(name, spec.label_rename)]
        elif len(names) == 1:
            by_stem = by_stem or {str(PurePosixPath(name).with_suffix("")): name for name in images_below(root / spec.images)}
            name = by_stem.get(names[0], names[0])
            names = [name, renamed(name, spec.label_rename)]
        if len(names) != 2:
            raise ValueError(f"{path}: line {number} should hold two paths, the picture's and its label image's")
        pairs.append((names[0], names[1]))
    return list(dict.fromkeys(pairs))


def _paired(spec: LabelImagesSpec, images: Path, labels: Path) -> list[tuple[str, str]]:
    if not labels.is_dir():
        raise ValueError(f"{labels}: no such folder of label images")
    names = images_below(images)
    if spec.pair_by_order:
        others = images_below(labels)
        if len(names) != len(others):
            raise ValueError(f"{labels}: holds {len(others)} label images, but {images} holds {len(names)} pictures")
        return list(zip(names, others, strict=True))
    pairs = [(name, renamed(name, spec.label_rename)) for name in names]
    if spec.only_labelled:
        return [(name, label) for name, label in pairs if (labels / label).exists()]
    for name, label in pairs:
        if not (labels / label).exists():
            raise ValueError(f"{labels / label}: no such file; every picture of {images} needs its label image, as {name} does")
    return pairs
