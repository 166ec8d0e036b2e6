"""Objects to be marked: pictures, and images of their masks, as the sets of interactive segmentation come."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch

from datasets.readers.images import read_mask_image
from datasets.records import Contents, Record
from datasets.spec import DatasetSpec, Part
from xdecoder.files import read_lines
from xdecoder.types import Objects

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")


class ObjectsSpec(DatasetSpec):
    """A folder of pictures and one of mask images, in which 0 is the background and every other value an object."""

    file_keys: ClassVar[tuple[str, ...]] = ("split",)
    folder_keys: ClassVar[tuple[str, ...]] = ("images", "masks")

    reader: Literal["objects"] = "objects"

    masks: str
    """Folder of the mask images. Without a list file, each is called as its picture, perhaps with more behind that name."""

    split: str | None = None
    """List file: rows of a picture and its mask image, or of names without suffixes."""

    ignore_value: int | None = None
    """Value of pixels that count neither as object nor as background."""

    one_object: bool = False
    """Whether all other values are one object, brighter than a half; for masks that were smoothed."""

    def provides(self) -> frozenset[Part]:
        return frozenset({"objects"})

    def read(self, root: Path) -> Contents:
        """A record for each picture that has a mask, with all of its masks."""
        images, masks = root / self.images, root / self.masks
        of: dict[Path, list[Path]] = defaultdict(list)
        for image, mask in self._listed(root / self.split, images, masks) if self.split else _paired(images, masks):
            of[image].append(mask)
        return Contents(None, [Record(id=image.stem, image=image, objects=tuple(found)) for image, found in of.items()])

    def _listed(self, path: Path, images: Path, masks: Path) -> list[tuple[Path, Path]]:
        pairs = []
        known: dict[str, dict[str, Path]] = {}
        for number, line in enumerate(read_lines(path), start=1):
            names = line.split()
            if len(names) == 2:
                pairs.append((images / names[0], masks / names[1]))
            elif len(names) == 1:
                known = known or {"picture": _by_stem(images), "mask image": _by_stem(masks)}
                missing = [what for what, files in known.items() if names[0] not in files]
                if missing:
                    raise ValueError(f"{path}: line {number} names {names[0]!r}, of which there is no {missing[0]}")
                pairs.append((known["picture"][names[0]], known["mask image"][names[0]]))
            else:
                raise ValueError(f"{path}: line {number} should hold a picture and its mask image, or one name of both")
        return pairs


def read_objects(record: Record, spec: ObjectsSpec, size: tuple[int, int]) -> Objects:
    """Masks of all objects of a picture; raises ValueError naming a file that is missing, damaged or of another size."""
    found: list[np.ndarray] = []
    ignored = np.zeros(size, dtype=bool)
    for path in record.objects:
        values = read_mask_image(path, size)
        open_ = values == spec.ignore_value if spec.ignore_value is not None else np.zeros(size, dtype=bool)
        if spec.one_object:
            found.append((values > 127) & ~open_)
        else:
            found += [values == value for value in np.unique(values) if value not in (0, spec.ignore_value)]
        ignored |= open_
    masks = torch.from_numpy(np.stack(found) if found else np.zeros((0, *size), dtype=bool))
    return Objects(masks, torch.from_numpy(ignored) if ignored.any() else None)


def _paired(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Each mask image belongs to the picture of the longest name with which its own begins."""
    pictures = _by_stem(images)
    pairs = []
    for stem, mask in _by_stem(masks).items():
        fitting = [name for name in pictures if stem.startswith(name) and not stem[len(name) : len(name) + 1].isdigit()]
        if not fitting:
            raise ValueError(f"{mask}: there is no picture of its name in {images}")
        pairs.append((pictures[max(fitting, key=len)], mask))
    return pairs


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}
