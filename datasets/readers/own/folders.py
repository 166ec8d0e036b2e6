"""How people lay out folders: splits, pictures beside their labels, a folder per class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from datasets.findings import refuse
from datasets.readers.labelme import annotated
from datasets.readers.names import holds_images
from xdecoder.files import files_below, hidden, is_image, read_json

SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "test", "testing")}
IMAGES = ("images", "img_dir", "JPEGImages", "imgs", "image")
MASKS = ("masks", "ann_dir", "labels", "annotations", "SegmentationClass", "mask", "label")

Fields = dict[str, Any]


def told(kind: str, split: bool) -> str:
    """What own data were taken for, in words."""
    shares = "its own splits" if split else "every fifth picture, by a hash of its name, is for measuring"
    return f"your own data: {kind}; {shares}"


def look_classes(folder: Path, part: str) -> Fields | None:
    """A folder of pictures per class, or per split and class."""
    sides = {key: first(folder / name for name in names if (folder / name).is_dir()) for key, names in SPLITS.items()}
    split = all(sides.values())
    home = sides[part] if split else sides["train"] or folder
    assert home is not None
    kinds = _kinds(home)
    strange = [name for name in kinds if name in IMAGES + MASKS or name in SPLITS["train"] + SPLITS["val"]]
    if len(kinds) < 2 or strange:
        return None
    if split and sides["train"] and sides["val"]:
        kinds = _kinds(sides["train"])
        unknown = [name for name in _kinds(sides["val"]) if name not in kinds]
        if unknown:
            what = f"{sides['val'] / unknown[0]}: is a class that {sides['train']} has no folder of"
            raise refuse(what, "what is measured should be learnt: add pictures of it, or remove the folder")
    return {
        "reader": "class_folders",
        "images": str(home.absolute()),
        "classes": tuple(kinds),
        "partial": bool(split),
        "part": None if split else part,
        "evaluators": ("classification",),
        "protocol": told("a folder per class", bool(split)),
    }


def _kinds(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir() if path.is_dir() and not hidden(path.name) and holds_images(path))


def look_labelme(folder: Path, part: str) -> Fields | None:
    """LabelMe's JSONs in the folder or in those of its splits; classes are all that occur, by name."""
    if not _is_labelme(folder):
        return None
    sides = {key: first(folder / name for name in names if _is_labelme(folder / name)) for key, names in SPLITS.items()}
    split = all(sides.values())
    home = sides[part] if split else folder
    assert home is not None
    names = {str(shape["label"]).strip() for file in annotated(folder).values() for shape in file["shapes"]}
    if not names:
        raise refuse(f"{folder}: its LabelMe JSONs hold no shape, so there is nothing to learn")
    return {
        "reader": "labelme",
        "images": str(home.absolute()),
        "classes": tuple(sorted(names)),
        "things": tuple(sorted(names)),
        "part": None if split else part,
        "evaluators": ("instance", "confusion"),
        "protocol": told("LabelMe shapes", bool(split)),
    }


def _is_labelme(folder: Path) -> bool:
    jsons = first(Path(name) for name in files_below(folder) if name.endswith(".json"))
    if jsons is None:
        return False
    content = read_json(folder / jsons)
    return isinstance(content, dict) and "shapes" in content and "imagePath" in content


def refuse_supervisely(folder: Path, part: str) -> None:
    """Raises ValueError for a Supervisely project: meta.json beside folders of img and ann."""
    if (folder / "meta.json").is_file() and any((each / "ann").is_dir() for each in [folder, *_folders(folder)]):
        what = f"{folder}: is a Supervisely project, which is not read here; export it as COCO"
        raise refuse(what, 'Supervisely\'s ecosystem has an app "Export to COCO"')


def folder_of(folder: Path, names: tuple[str, ...], part: str) -> tuple[Path | None, bool]:
    """The folder of one of the names and of a split, as name/split or split/name, and whether there are splits at all."""
    for name in names:
        layouts: tuple[Callable[[str], Path], ...] = (lambda s, n=name: folder / n / s, lambda s, n=name: folder / s / n)  # type: ignore[misc]
        for layout in layouts:
            sides = {key: first(layout(s) for s in names if layout(s).is_dir()) for key, names in SPLITS.items()}
            if all(sides.values()):
                return absolute(sides[part]), True
            if sides["train"]:
                return absolute(sides["train"]), False
        whole = folder / name
        if whole.is_dir() and holds_images(whole):
            return absolute(whole), False
    return None, False


def swapped(images: Path, name: str) -> Path:
    """images → name, in images/train as well as in train/images."""
    if images.name in IMAGES:
        return images.with_name(name)
    return images.parent.with_name(name) / images.name


def holds(folder: Path, fits: Callable[[str], bool]) -> bool:
    """Whether a file of such a name lies in the folder or below it."""
    return any(map(fits, files_below(folder)))


def holds_masks(folder: Path) -> bool:
    return holds(folder, lambda name: name.lower().endswith(".png"))


def holds_other_masks(folder: Path) -> bool:
    return holds(folder, is_image)


def absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()


def first(paths: Iterator[Path]) -> Path | None:
    return next(paths, None)


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not hidden(path.name)]
