"""Your own data: which of the formats we read a path holds, told from what lies there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from datasets.findings import refuse
from datasets.readers.own import coco, folders, masks, yolo
from datasets.readers.own.folders import Fields
from datasets.records import Contents
from datasets.spec import DatasetSpec, Part
from xdecoder.config import parse_yaml
from xdecoder.files import read_text, regular

EXPECTED = (
    "a COCO JSON beside its pictures; images/ and masks/ (PNGs of class numbers) with classes.txt; a YOLO folder with "
    "data.yaml, images/ and labels/; a Pascal VOC folder; LabelMe's JSONs beside their pictures; or a folder of pictures per "
    "class"
)
NAMES = ("own_train", "own_val")  # in the catalog

_LOOKS: tuple[Callable[[Path, str], Fields | None], ...] = (
    folders.refuse_supervisely,
    yolo.look,
    folders.look_labelme,
    coco.look,
    masks.look_voc,
    masks.look,
    folders.look_classes,
)


class OwnSpec(DatasetSpec):
    """Whichever of our formats the path `images` turns out to hold."""

    reader: Literal["own"] = "own"

    images: str = ""
    """A folder or a file, by its whole path; it comes with the experiment."""

    def resolved(self) -> DatasetSpec:
        return find(self)

    def provides(self) -> frozenset[Part]:
        return find(self).provides()

    def read(self, root: Path) -> Contents:
        return find(self).read(root)


def find(spec: DatasetSpec) -> DatasetSpec:
    """The specification of what `spec.images` holds, with absolute paths.

    Where there are no folders or files of the usual names for splits, `spec.part` is kept: the reader then takes a share.

    Raises:
        ValueError: where nothing is named, nothing is there, or it is in none of the formats.
    """
    path = Path(spec.images)
    if not path.is_absolute():
        what = f"data set {spec.name!r} is your own data; name the folder or the COCO JSON with data.own=PATH"
        raise refuse(what, "name it in an experiment, and check that experiment")
    if not path.exists():
        raise refuse(f"{path}: no such folder or file; data.own names your own data: {EXPECTED}")
    part = spec.part or "train"
    for look in (_look_file,) if not path.is_dir() else _LOOKS:
        fields = look(path, part)
        if fields is not None:
            return DatasetSpec.model_validate({"name": spec.name, **fields})
    raise refuse(f"{path}: is in no format that is known here; expected {EXPECTED}")


def is_data_yaml(path: Path) -> bool:
    """Whether a YAML describes a YOLO set, and no experiment."""
    try:
        content = parse_yaml(read_text(path), str(path))
    except ValueError:
        return False
    return isinstance(content, dict) and "names" in content and "data" not in content


def _look_file(path: Path, part: str) -> Fields | None:
    regular(path)
    if path.suffix.lower() == ".json":
        return coco.of_files([path], part, None, split=False)
    if path.suffix.lower() in (".yaml", ".yml"):
        return yolo.of_yaml(path, part)
    raise refuse(f"{path}: is no COCO JSON and no data.yaml; data.own names {EXPECTED}")
