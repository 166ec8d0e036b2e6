"""Your own data: which of the formats we read a path holds, told from what lies there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from PIL import Image

from datasets.readers.label_images import IMAGE_SUFFIXES
from datasets.records import Record
from datasets.spec import DatasetSpec, Part
from xdecoder.files import read_json, read_lines
from xdecoder.types import Vocabulary

EXPECTED = (
    "a COCO JSON beside its pictures; images/ and masks/ (PNGs of class numbers) with classes.txt; "
    "a YOLO folder with data.yaml, images/ and labels/; or a folder of pictures per class"
)
SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "test")}
UNLABELLED = 255
NAMES = ("own_train", "own_val")  # in the catalog

Fields = dict[str, Any]


class OwnSpec(DatasetSpec):
    """Whichever of our formats the path `images` turns out to hold."""

    reader: Literal["own"] = "own"

    images: str = ""
    """A folder or a file, by its whole path; it comes with the experiment."""

    def resolved(self) -> DatasetSpec:
        return find(self)

    def provides(self) -> frozenset[Part]:
        return find(self).provides()

    def read(self, root: Path) -> tuple[Vocabulary | None, Sequence[Record]]:
        return find(self).read(root)


def find(spec: DatasetSpec) -> DatasetSpec:
    """The specification of what `spec.images` holds, with absolute paths.

    Where there are no folders or files of the usual names for splits, `spec.part` is kept: the reader then takes a share.

    Raises:
        ValueError: where nothing is named, nothing is there, or it is in none of the formats.
    """
    path = Path(spec.images)
    if not path.is_absolute():
        raise ValueError(f"data set {spec.name!r} is your own data; name the folder or the COCO JSON with data.own=PATH")
    if not path.exists():
        raise ValueError(f"{path}: no such folder or file; data.own names your own data: {EXPECTED}")
    part = spec.part or "train"
    for look in (_coco_file,) if path.is_file() else (_yolo, _coco_folder, _masks, _class_folders):
        fields = look(path, part)
        if fields is not None:
            return DatasetSpec.model_validate({"name": spec.name, **fields})
    raise ValueError(f"{path}: is in no format that is known here; expected {EXPECTED}")


def _coco_file(path: Path, part: str) -> Fields:
    if path.suffix != ".json":
        raise ValueError(f"{path}: is no COCO JSON; data.own names {EXPECTED}")
    return _coco([path], part, None, split=False)


def _coco_folder(folder: Path, part: str) -> Fields | None:
    """JSONs in folders of the splits' names, or named after the splits, or one for everything."""
    homes = [folder, folder / "annotations"]
    by_split = {key: _json_of(homes, folder, names) for key, names in SPLITS.items()}
    if by_split["train"] and by_split["val"]:
        return _coco(by_split[part], part, folder, split=True)
    files = [path for home in homes for path in sorted(home.glob("*.json"))] or by_split["train"]
    return _coco(files, part, folder, split=False) if files else None


def _json_of(homes: list[Path], folder: Path, names: tuple[str, ...]) -> list[Path]:
    for name in names:
        inside = sorted((folder / name).glob("*.json"))
        named = [path for home in homes for path in sorted(home.glob("*.json")) if name in path.stem.lower()]
        if inside or named:
            return inside or named
    return []


def _coco(files: list[Path], part: str, folder: Path | None, split: bool) -> Fields:
    kinds: dict[str, tuple[Path, Any]] = {}
    for path in files:
        content = read_json(path)
        kind = _kind_of(content, path)
        if kind in kinds:
            raise ValueError(f"{kinds[kind][0]} and {path} hold {kind} both; name one of them with data.own=FILE")
        kinds[kind] = path, content
    fields: Fields = {kind: str(path.absolute()) for kind, (path, _) in kinds.items()}
    if "panoptic" in kinds:
        fields["panoptic_images"] = str(_panoptic_folder(*kinds["panoptic"]))
    measures = {
        "panoptic": ("panoptic", "instance", "semantic"),
        "instances": ("instance",),
        "phrases": ("referring",),
        "captions": ("captioning", "retrieval"),
    }
    main = next(kind for kind in measures if kind in kinds)
    names = [path.name for path, _ in kinds.values()]
    return {
        "reader": "coco",
        **fields,
        "images": str(_image_folder(*kinds[main], folder)),
        "part": None if split else part,
        "evaluators": tuple(dict.fromkeys(name for kind, some in measures.items() if kind in kinds for name in some)),
        "protocol": _told(f"COCO {', '.join(kinds)} ({', '.join(names)})", split),
    }


def _kind_of(content: Any, path: Path) -> str:
    """Told from an annotation: what it has says what it is."""
    rows = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows or not isinstance(rows[0], dict):
        raise ValueError(f"{path}: expected a COCO JSON, an object with a list 'annotations' that is not empty")
    for key, kind in (("segments_info", "panoptic"), ("sentences", "phrases"), ("caption", "captions")):
        if key in rows[0]:
            return kind
    if not any(row.get("segmentation") for row in rows):
        raise ValueError(f"{path}: its annotations are boxes only; each needs a 'segmentation' (polygons or RLE)")
    return "instances"


def _image_folder(path: Path, content: Fields, folder: Path | None) -> Path:
    """Where the first picture lies; looked for beside the JSON and in the usual folders."""
    try:
        first = content["images"][0]["file_name"]
    except (KeyError, IndexError, TypeError):
        raise ValueError(f"{path}: 'images' should be a list of pictures, each with an id and a file_name") from None
    here, above = path.absolute().parent, (folder or path.parent).absolute()
    names = [name for names in SPLITS.values() for name in names if name in path.stem.lower() or name == here.name]
    homes = [here, here / "images", here.parent / "images", above / "images", above, here.parent]
    places = [*homes, *(home / name for home in homes for name in (*names, path.stem.rpartition("_")[2]))]
    for place in places:
        if (place / first).is_file():
            return place
    raise ValueError(f"{path}: its first picture {first!r} lies neither beside it nor in {here.parent / 'images'}")


def _panoptic_folder(path: Path, content: Fields) -> Path:
    first, here = content["annotations"][0].get("file_name", ""), path.absolute().parent
    for place in (path.absolute().with_suffix(""), here / "panoptic", here):
        if (place / first).is_file():
            return place
    raise ValueError(f"{path.with_suffix('')}: no such folder with the panoptic PNGs of {path.name} ({first!r} was looked for)")


def _yolo(folder: Path, part: str) -> Fields | None:
    """data.yaml lists the classes; labels lie in `labels` where pictures lie in `images`."""
    named = [path for pattern in ("*.yaml", "*.yml") for path in sorted(folder.glob(pattern))]
    images, split = _folder_of(folder, "images", part)
    labels = _beside(images, "labels") if images else None
    if not named and not (labels and any(labels.glob("*.txt"))):
        return None
    classes = _names_of(named[0]) if named else _class_list(folder, "the class names of the YOLO labels")
    if images is None:
        raise ValueError(f"{folder}: has {named[0].name}, but no folder images, images/{part} or {part}/images with pictures")
    if labels is None:
        raise ValueError(f"{_swapped(images, 'labels')}: no such folder; it should hold a .txt for each picture of {images}")
    return {
        "reader": "yolo",
        "images": str(images),
        "labels": str(labels),
        "classes": classes,
        "things": classes,
        "part": None if split else part,
        "evaluators": ("instance",),
        "protocol": _told("YOLO polygons", split),
    }


def _names_of(path: Path) -> tuple[str, ...]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names:
        raise ValueError(f"{path}: expected 'names', a list of the class names or a mapping from 0, 1, 2, … to them")
    return _checked(tuple(str(name) for name in names), path)


def _masks(folder: Path, part: str) -> Fields | None:
    for name in ("masks", "labels", "annotations"):
        images, split = _folder_of(folder, "images", part)
        masks = _beside(images, name) if images else None
        if images and masks and any(masks.glob("*.png")):
            classes = _class_list(folder, "the class of value 0 in the masks, of value 1, and so on")
            _refuse_black_and_white(masks, classes)
            return {
                "reader": "label_images",
                "images": str(images),
                "labels": str(masks),
                "classes": classes,
                "ignore_value": UNLABELLED,
                "part": None if split else part,
                "evaluators": ("semantic",),
                "protocol": _told(f"mask PNGs, value {UNLABELLED} is unlabelled", split),
            }
    return None


def _refuse_black_and_white(masks: Path, classes: tuple[str, ...]) -> None:
    """255 means "unlabelled"; a mask painted in black and white would lose all that it is about."""
    seen: set[int] = set()
    for path in sorted(masks.glob("*.png"))[:10]:
        try:
            with Image.open(path) as image:
                seen |= set(np.unique(np.asarray(image)).tolist())
        except (OSError, SyntaxError):
            return  # the reader says what is wrong with it
    if seen == {0, UNLABELLED} and len(classes) <= 2:
        raise ValueError(
            f"{masks}: its masks are black and white (0 and 255), but 255 means unlabelled; paint class k of classes.txt as k, "
            "counted from 0"
        )


def _class_list(folder: Path, what: str) -> tuple[str, ...]:
    path = folder / "classes.txt"
    if not path.is_file():
        raise ValueError(f"{path}: no such file; write {what}, one name a line")
    return _checked(tuple(read_lines(path)), path)


def _checked(names: tuple[str, ...], path: Path) -> tuple[str, ...]:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{path}: class names must differ, but {twice[0]!r} stands more than once")
    if "background" in names:
        raise ValueError(
            f"{path}: 'background' is what the network calls a query that found nothing; name what is seen there, such as "
            f"'floor' or 'other things', or paint it {UNLABELLED}, which is unlabelled"
        )
    return names


def _class_folders(folder: Path, part: str) -> Fields | None:
    sides = {key: _first(folder / name for name in names if (folder / name).is_dir()) for key, names in SPLITS.items()}
    split = all(sides.values())
    home = sides[part] if split else sides["train"] or folder
    assert home is not None
    kinds = sorted(path.name for path in home.iterdir() if path.is_dir() and _holds_images(path))
    if len(kinds) < 2:
        return None
    return {
        "reader": "class_folders",
        "images": str(home.absolute()),
        "classes": tuple(kinds),
        "part": None if split else part,
        "evaluators": ("classification",),
        "protocol": _told("a folder per class", bool(split)),
    }


def _folder_of(folder: Path, name: str, part: str) -> tuple[Path | None, bool]:
    """The folder of that name and split, as name/split or split/name, and whether there are splits at all."""
    layouts: tuple[Callable[[str], Path], ...] = (lambda s: folder / name / s, lambda s: folder / s / name)
    for layout in layouts:
        sides = {key: _first(layout(s) for s in names if layout(s).is_dir()) for key, names in SPLITS.items()}
        if all(sides.values()):
            return _absolute(sides[part]), True
        if sides["train"]:
            return _absolute(sides["train"]), False
    whole = folder / name
    return (_absolute(whole), False) if whole.is_dir() and _holds_images(whole) else (None, False)


def _beside(images: Path, name: str) -> Path | None:
    other = _swapped(images, name)
    return other if other.is_dir() else None


def _swapped(images: Path, name: str) -> Path:
    """images → name, in images/train as well as in train/images."""
    if images.name == "images":
        return images.with_name(name)
    return images.parent.with_name(name) / images.name


def _holds_images(folder: Path) -> bool:
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir())


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()


def _first(paths: Iterator[Path]) -> Path | None:
    return next(paths, None)


def _told(kind: str, split: bool) -> str:
    shares = "its own splits" if split else "every fifth picture, by a hash of its name, is for measuring"
    return f"your own data: {kind}; {shares}"
