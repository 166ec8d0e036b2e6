"""A YOLO folder: data.yaml as ultralytics reads it, or folders of the usual names.

Rules of data.yaml: https://docs.ultralytics.com/datasets/segment. `path` is the root, by default the YAML's own folder;
`train`, `val` and `test` are each a folder, a text file of pictures' paths, or a list of these.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from datasets.findings import refuse
from datasets.readers.classes import checked_names, is_background
from datasets.readers.own.folders import Fields, folder_of, holds, swapped, told
from xdecoder.config import parse_yaml
from xdecoder.files import hidden, read_lines, read_text, shown

_SIDES = {"train": ("train",), "val": ("val", "valid", "validation", "test")}


def look(folder: Path, part: str) -> Fields | None:
    """data.yaml lists the classes; labels lie in `labels` where pictures lie in `images`."""
    path = _yaml_of(folder)
    if path is not None:
        return of_yaml(path, part)
    images, _ = folder_of(folder, ("images",), part)
    labels = swapped(images, "labels") if images else None
    if labels is None or not holds(labels, lambda name: name.endswith(".txt")):
        return None
    return _by_folders(folder, part, class_list(folder, "the class names of the YOLO labels"), "classes.txt")


def of_yaml(path: Path, part: str) -> Fields:
    """What a data.yaml describes; raises ValueError where it does not fit what lies there."""
    content = parse_yaml(read_text(path), str(path))
    if not isinstance(content, dict):
        raise refuse(f"{path}: expected a mapping with 'names', not {shown(content)}")
    classes = _classes(content, path)
    home = _home(content, path)
    sides = {key: next((name for name in names if content.get(name) is not None), None) for key, names in _SIDES.items()}
    if sides["train"] is None:
        if sides["val"] is not None:
            raise refuse(f"{path}: names {sides['val']!r} but no 'train', so it does not say what to learn from")
        return _by_folders(path.parent, part, classes, path.name)
    split = sides["val"] is not None
    key = sides[part] if split else sides["train"]
    lists = [_place(each, str(key), home, path) for each in _entries(content[str(key)], str(key), path)]
    return {
        "reader": "yolo",
        "images": str(home),
        "lists": tuple(map(str, lists)),
        **_measured(classes, part, split, f"YOLO polygons ({path.name}: {key})"),
    }


def class_list(folder: Path, what: str) -> tuple[str, ...]:
    """The names in classes.txt, in order; raises ValueError where there is none."""
    path = folder / "classes.txt"
    if not path.exists():
        raise refuse(f"{path}: no such file; write {what}, one name a line")
    return checked_names(_unnumbered(read_lines(path), path), str(path))


def _unnumbered(lines: list[str], path: Path) -> list[str]:
    """The names of lines such as `0: box`, which some tools write; raises ValueError if they count otherwise than from 0."""
    found = [re.fullmatch(r"(\d+)(?:\s*[:;,=.)]\s*|\s+)(\S.*)", line) for line in lines]
    if not lines or not all(found):
        return lines
    if [int(each[1]) for each in found if each] != list(range(len(lines))):
        raise refuse(
            f"{path}: its lines begin with numbers, but not 0, 1, 2, …; write names alone, in the order of their numbers"
        )
    return [each[2] for each in found if each]


def _measured(classes: tuple[str, ...], part: str, split: bool, kind: str) -> Fields:
    return {
        "classes": classes,
        "things": tuple(name for name in classes if not is_background(name)),
        "part": None if split else part,
        "evaluators": ("instance", "confusion"),
        "protocol": told(kind, split),
    }


def _by_folders(folder: Path, part: str, classes: tuple[str, ...], named: str) -> Fields:
    images, split = folder_of(folder, ("images",), part)
    if images is None:
        raise refuse(f"{folder}: has {named}, but no folder images, images/{part} or {part}/images with pictures")
    labels = swapped(images, "labels")
    if not labels.is_dir():
        raise refuse(f"{labels}: no such folder; it should hold a .txt for each picture of {images}")
    fields = _measured(classes, part, split, "YOLO polygons")
    return {"reader": "yolo", "images": str(images), "labels": str(labels), **fields}


def _yaml_of(folder: Path) -> Path | None:
    """data.yaml, or the only other YAML that names classes."""
    for name in ("data.yaml", "data.yml"):
        if (folder / name).exists():
            return folder / name
    paths = [path for pattern in ("*.yaml", "*.yml") for path in sorted(folder.glob(pattern)) if not hidden(path.name)]
    naming = []
    for path in paths:
        content = parse_yaml(read_text(path), str(path))
        if len(paths) == 1 or (isinstance(content, dict) and "names" in content):
            naming.append(path)
    if len(naming) > 1:
        raise refuse(f"{naming[0]} and {naming[1]} both name classes; name one of them with data.own=FILE")
    return naming[0] if naming else None


def _classes(content: dict[Any, Any], path: Path) -> tuple[str, ...]:
    names = content.get("names")
    if isinstance(names, dict):
        numbered = {int(key) if str(key).isdecimal() else key: name for key, name in names.items()}
        if len(numbered) == len(names) and all(place in numbered for place in range(len(numbered))):
            names = [numbered[place] for place in range(len(numbered))]
    if not isinstance(names, list) or not names:
        raise refuse(f"{path}: expected 'names', a list of the class names or a mapping from 0, 1, 2, … to them")
    for name in names:
        if isinstance(name, bool) or not isinstance(name, (str, int, float)):
            raise refuse(f"{path}: a class is called {shown(name)}; in YAML yes, no, on, off and null need quotes to be names")
    count = content.get("nc")
    if count is not None and count != len(names):
        raise refuse(f"{path}: says nc: {shown(count)}, but 'names' has {len(names)} classes")
    return checked_names([str(name) for name in names], str(path))


def _home(content: dict[Any, Any], path: Path) -> Path:
    here, named = path.absolute().parent, content.get("path")
    if named is None:
        return here
    if not isinstance(named, str):
        raise refuse(f"{path}: 'path' should be the folder that holds the set, not {shown(named)}")
    for home in (here / named, here if Path(named).name == here.name else here / named):
        if home.is_dir():
            return home.resolve()
    raise refuse(f"{path}: its path {shown(named)} is no folder here; name the folder that holds the set, or remove the key")


def _entries(value: Any, key: str, path: Path) -> list[str]:
    entries = value if isinstance(value, list) else [value]
    if not entries or not all(isinstance(entry, str) and entry.strip() for entry in entries):
        raise refuse(f"{path}: {key!r} should be a folder, a list file or a list of these, not {shown(value)}")
    return entries


def _place(entry: str, key: str, home: Path, path: Path) -> Path:
    name = entry.replace("\\", "/")
    for place in (home / name, home / name.removeprefix("../")):
        if place.exists():
            return place.resolve()
    raise refuse(f"{path}: {key!r} names {home / name}, which is not there")
