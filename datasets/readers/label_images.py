"""Semantic sets: a picture and a PNG of class numbers."""

from __future__ import annotations

from pathlib import Path

from datasets.spec import DatasetSpec, Record
from xdecoder.types import Vocabulary

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")


def read(spec: DatasetSpec, root: Path) -> tuple[Vocabulary, list[Record]]:
    """Pairs from the list file, or from two folders whose file names agree but for the suffix."""
    pairs = _listed(spec, root) if spec.split else _paired(root / spec.images, root / str(spec.labels))
    return _vocabulary(spec, root), [Record(id=image.stem, image=image, id_map=label) for image, label in pairs]


def read_lines(path: Path) -> list[str]:
    """Non-empty lines of a text file; raises ValueError naming it."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as a text file ({error})") from None


def _listed(spec: DatasetSpec, root: Path) -> list[tuple[Path, Path]]:
    path = root / str(spec.split)
    pairs = []
    for number, line in enumerate(read_lines(path), start=1):
        names = line.split()
        if len(names) != 2:
            raise ValueError(f"{path}: line {number} should hold two paths, the picture's and its label image's")
        label_folder = spec.labels or spec.images
        pairs.append((root / spec.images / names[0], root / label_folder / names[1]))
    return pairs


def _paired(images: Path, labels: Path) -> list[tuple[Path, Path]]:
    if not labels.is_dir():
        raise ValueError(f"{labels}: no such folder of label images")
    pictures = sorted(path for path in images.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
    pairs = [(path, labels / f"{path.stem}.png") for path in pictures]
    for picture, label in pairs:
        if not label.is_file():
            raise ValueError(f"{label}: no such file; every picture of {images} needs its label image, as {picture.name} does")
    return pairs


def _vocabulary(spec: DatasetSpec, root: Path) -> Vocabulary:
    names = spec.classes if isinstance(spec.classes, tuple) else tuple(read_lines(root / str(spec.classes)))
    ignored = None if spec.ignore_value is None else spec.ignore_value - spec.label_offset
    if ignored == len(names) - 1:
        names = names[:-1]
    where = f"data set {spec.name!r}" if isinstance(spec.classes, tuple) else str(root / str(spec.classes))
    unknown = [name for name in spec.things if name not in names]
    if unknown:
        raise ValueError(f"{where}: {unknown[0]!r} of `things` is not among the classes")
    try:
        return Vocabulary(names, tuple(name in spec.things for name in names))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
