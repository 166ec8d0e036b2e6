"""Semantic sets: a picture and a PNG of class numbers."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import model_validator

from datasets.readers.classes import ClassKeys, LabelImageKeys, renamed
from datasets.records import Record
from datasets.spec import DatasetSpec, Part, Rename, needs
from xdecoder.files import read_lines
from xdecoder.types import Vocabulary

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


class LabelImagesSpec(LabelImageKeys, ClassKeys, DatasetSpec):
    """A label PNG per picture, one region a class."""

    file_keys: ClassVar[tuple[str, ...]] = ("split",)
    folder_keys: ClassVar[tuple[str, ...]] = ("images", "labels")

    reader: Literal["label_images"] = "label_images"

    split: str | None = None
    """List file: rows of a picture and its label image, or pictures' paths."""

    image_rename: Rename = ()
    """How a picture's path in `images` follows from the row of the list file."""

    pair_by_order: bool = False
    """Whether the k-th picture belongs to the k-th label image, whatever their names."""

    @model_validator(mode="after")
    def _check(self) -> LabelImagesSpec:
        needs(self, "split", "labels")
        return self

    def without_ignored(self, names: tuple[str, ...]) -> tuple[str, ...]:
        ignored = self.ignore_value
        return names[:-1] if isinstance(ignored, int) and ignored - self.label_offset == len(names) - 1 else names

    def provides(self) -> frozenset[Part]:
        return frozenset({"regions"})

    def read(self, root: Path) -> tuple[Vocabulary, list[Record]]:
        """Pairs from the list file, or of the pictures in a folder and its folders; names agree as `spec.label_rename` says."""
        images, labels = root / self.images, root / (self.labels or self.images)
        pairs = _listed(self, root) if self.split else _paired(self, images, labels)
        names = [name for name, _ in pairs]
        # Files of several scenes may share a name; then a picture is known by its path.
        stems = [Path(name).stem for name in names]
        ids = stems if len(set(stems)) == len(stems) else [str(Path(name).with_suffix("")) for name in names]
        rows = zip(ids, pairs, strict=True)
        return self.class_names(root), [
            Record(id=key, image=images / name, id_map=labels / label) for key, (name, label) in rows
        ]


def images_in(folder: Path) -> list[Path]:
    """The picture files that lie in a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def _listed(spec: LabelImagesSpec, root: Path) -> list[tuple[str, str]]:
    """Rows of a picture and its label image, or of the picture alone (without its suffix, as in Pascal VOC)."""
    path = root / str(spec.split)
    pairs = []
    for number, line in enumerate(read_lines(path), start=1):
        names = line.split()
        if spec.image_rename:
            name = renamed(line, spec.image_rename)
            names = [name, renamed(name, spec.label_rename)]
        if len(names) != 2:
            raise ValueError(f"{path}: line {number} should hold two paths, the picture's and its label image's")
        pairs.append((names[0], names[1]))
    return pairs


def _paired(spec: LabelImagesSpec, images: Path, labels: Path) -> list[tuple[str, str]]:
    if not labels.is_dir():
        raise ValueError(f"{labels}: no such folder of label images")
    names = _names_below(images)
    if spec.pair_by_order:
        others = _names_below(labels)
        if len(names) != len(others):
            raise ValueError(f"{labels}: holds {len(others)} label images, but {images} holds {len(names)} pictures")
        return list(zip(names, others, strict=True))
    pairs = [(name, renamed(name, spec.label_rename)) for name in names]
    for name, label in pairs:
        if not (labels / label).is_file():
            raise ValueError(f"{labels / label}: no such file; every picture of {images} needs its label image, as {name} does")
    return pairs


def _names_below(folder: Path) -> list[str]:
    """Paths of the picture files in a folder and its folders, in order."""
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(path.relative_to(folder).as_posix() for path in paths)
