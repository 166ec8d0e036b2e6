"""Class lists of the public data sets. The names are data: one JSON a list beside this file."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from xdecoder.files import read_json
from xdecoder.types import Vocabulary

_FOLDER = Path(__file__).parent
_ANSWERS = "vqa_answers"


@dataclass(frozen=True)
class ClassList:
    """A vocabulary, and the number (or, for ImageNet, the folder) that each class has in the set's own files."""

    vocabulary: Vocabulary
    ids: tuple[int | str | None, ...]


def known() -> tuple[str, ...]:
    """Names that `load` takes, without the ":things" of those that have some."""
    lists = []
    for path in sorted(_FOLDER.glob("*.json")):
        parts = read_json(path).get("parts") if path.stem != _ANSWERS else ()
        lists += [path.stem] if parts is None else [f"{path.stem}:{part}" for part in parts]
    return tuple(lists)


@cache
def load(name: str) -> ClassList:
    """The class list of that name: "coco_133", "coco_133:things" (its countable classes alone) or "seginw:Elephants".

    Raises:
        ValueError: for an unknown name, with the nearest known one.
    """
    file, colon, part = name.partition(":")
    path = _FOLDER / f"{file}.json"
    content = read_json(path) if path.stem == file != _ANSWERS and path.is_file() else {}
    if "parts" in content and part in content["parts"]:
        return _class_list([{"id": i, "name": word, "thing": True} for i, word in enumerate(content["parts"][part])])
    rows = content.get("classes", [])
    if part == "things":
        rows = [row for row in rows if row.get("thing")]
    if not rows or (colon and part != "things"):
        near = difflib.get_close_matches(name, known(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known())}"
        raise ValueError(f"unknown class list {name!r}; {hint}")
    return _class_list(rows)


@cache
def answers() -> tuple[str | None, ...]:
    """The 3129 answers that the published network chooses from when asked about a picture; one place has none."""
    return tuple(read_json(_FOLDER / f"{_ANSWERS}.json")["answers"])


def _class_list(rows: list[dict[str, Any]]) -> ClassList:
    names = tuple(row["name"] for row in rows)
    texts = tuple(row.get("text", row["name"]) for row in rows)
    things = tuple(bool(row.get("thing")) for row in rows)
    return ClassList(Vocabulary(names, things, () if texts == names else texts), tuple(row["id"] for row in rows))
