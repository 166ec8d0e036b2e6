"""COCO JSONs: of which kind each is, and where their pictures lie."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from datasets.findings import refuse
from datasets.readers.coco_file import File
from datasets.readers.names import Names
from datasets.readers.own.folders import SPLITS, Fields, told
from xdecoder.files import hidden, shown

_EVALUATORS = {
    "panoptic": ("panoptic", "instance", "confusion", "semantic"),
    "instances": ("instance", "confusion"),
    "phrases": ("referring",),
    "captions": ("captioning", "retrieval"),
}
_TRIED = 20  # pictures that tell where all of them lie


def look(folder: Path, part: str) -> Fields | None:
    """JSONs in folders of the splits' names, or named after the splits, or one for everything."""
    homes = [folder, folder / "annotations"]
    by_split = {key: _jsons_of(homes, folder, names) for key, names in SPLITS.items()}
    if by_split["train"] and by_split["val"]:
        return of_files(by_split[part], part, folder, split=True)
    files = [path for home in homes for path in _jsons(home)] or by_split["train"]
    return of_files(files, part, folder, split=False) if files else None


def of_files(paths: list[Path], part: str, folder: Path | None, split: bool) -> Fields:
    """What the JSONs of a set hold; raises ValueError if one is none, or two are of one kind."""
    kinds: dict[str, File] = {}
    for path in paths:
        file = File.read(path)
        kind = _kind_of(file)
        if kind in kinds:
            raise refuse(f"{kinds[kind].path} and {path} hold {kind} both; name one of them with data.own=FILE")
        kinds[kind] = file
    fields: Fields = {kind: str(file.path.absolute()) for kind, file in kinds.items()}
    if "panoptic" in kinds:
        fields["panoptic_images"] = str(_panoptic_folder(kinds["panoptic"]))
    main = next(kind for kind in _EVALUATORS if kind in kinds)
    names = ", ".join(file.path.name for file in kinds.values())
    return {
        "reader": "coco",
        **fields,
        "images": str(_image_folder(kinds[main], folder)),
        "loose_names": True,
        "turn": "told",
        "part": None if split else part,
        "evaluators": tuple(dict.fromkeys(name for kind, some in _EVALUATORS.items() if kind in kinds for name in some)),
        "protocol": told(f"COCO {', '.join(kinds)} ({names})", split),
    }


def _jsons(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.json")) if not hidden(path.name)]


def _jsons_of(homes: list[Path], folder: Path, names: tuple[str, ...]) -> list[Path]:
    for name in names:
        inside = _jsons(folder / name)
        named = [path for home in homes for path in _jsons(home) if name in path.stem.lower()]
        if inside or named:
            return inside or named
    return []


def _kind_of(file: File) -> str:
    """Told from an annotation: what it has says what it is."""
    rows = file.content["annotations"]
    if not rows or not isinstance(rows[0], dict):
        raise refuse(f"{file.path}: expected a COCO JSON, an object with a list 'annotations' that is not empty")
    for key, kind in (("segments_info", "panoptic"), ("sentences", "phrases"), ("caption", "captions")):
        if key in rows[0]:
            return kind
    if not any(isinstance(row, dict) and row.get("segmentation") for row in rows):
        raise refuse(f"{file.path}: its annotations are boxes only; each needs a 'segmentation' (polygons or RLE)")
    return "instances"


def _image_folder(file: File, folder: Path | None) -> Path:
    """Where its pictures lie; looked for beside the JSON and in the usual folders, at last by names that mean the same."""
    names = [row["file_name"] for row in islice(file.pictures.values(), _TRIED) if "file_name" in row]
    if not names:
        raise refuse(f"{file.path}: 'images' should be a list of pictures, each with an id and a file_name")
    path = file.path.absolute()
    here, above = path.parent, (folder or file.path.parent).absolute()
    sides = [name for names in SPLITS.values() for name in names if name in path.stem.lower() or name == here.name]
    homes = list(dict.fromkeys([here, here / "images", here.parent / "images", above / "images", above, here.parent]))
    places = [*homes, *(home / name for home in homes for name in (*sides, path.stem.rpartition("_")[2]))]
    for name in names:
        for place in places:
            if _is_file(place / name):
                return place
    for place in dict.fromkeys((here, above)):
        there = Names(place)
        if any(_is_file(there.path(name)) for name in names):
            return place
    searched = ", ".join(str(home) for home in homes if home.is_dir())
    raise refuse(f"{file.path}: its first picture {shown(names[0])} is not there; looked for in {searched}")


def _panoptic_folder(file: File) -> Path:
    row, path = file.content["annotations"][0], file.path.absolute()
    first = str(row.get("file_name", "")).replace("\\", "/")
    for place in (path.with_suffix(""), path.parent / "panoptic", path.parent):
        if _is_file(place / first):
            return place
    what = f"{path.with_suffix('')}: no such folder with the panoptic PNGs of {path.name} ({shown(first)} was looked for)"
    raise refuse(what)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # names that no file can have
        return False
