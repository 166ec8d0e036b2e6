"""Lists of predictions that somebody hands in, checked row by row before anything is scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from xdecoder.files import read_json, shown

Row = dict[str, Any]
Key = int | str


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 31


def _is_outline(value: Any) -> bool:
    return isinstance(value, (dict, list))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_segments(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, dict)
        and _is_whole(each.get("id"))
        and _is_whole(each.get("category_id"))
        and _is_number(each.get("score", 1.0))
        for each in value
    )


def _are_whole(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_whole, value))


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_number, value))


def _is_count(value: Any) -> bool:
    return _is_whole(value) and value >= 0


def _are_curves(value: Any) -> bool:
    """As many rounds for each object, shares of one each."""
    return (
        isinstance(value, list)
        and all(_are_numbers(curve) and curve and min(curve) >= 0 and max(curve) <= 1 for curve in value)
        and len({len(curve) for curve in value}) <= 1
    )


_ID, _SCORE = (_is_id, "a number or a text"), (_is_number, "a finite number")
_KEYS: dict[str, dict[str, tuple[Callable[[Any], bool], str]]] = {
    "panoptic.json": {
        "image_id": _ID,
        "file_name": (_is_text, "a text"),
        "segments_info": (_are_segments, "a list of segments, each with whole numbers id and category_id, and a finite score"),
    },
    "instances.json": {
        "image_id": _ID,
        "category_id": (_is_whole, "a whole number"),
        "segmentation": (_is_outline, "an RLE or a list of polygons"),
        "score": _SCORE,
    },
    "referring.json": {
        "image_id": _ID,
        "index": (_is_count, "a whole number from 0"),
        "segmentation": (_is_outline, "an RLE or a list of polygons"),
        "score": _SCORE,
    },
    "captions.json": {"image_id": _ID, "caption": (_is_text, "a text")},
    "classes.json": {
        "image_id": _ID,
        "labels": (_are_whole, "a list of whole numbers"),
        "scores": (_are_numbers, "a list of finite numbers"),
    },
    "interactive.json": {
        "image_id": _ID,
        "ious": (_are_curves, "for each object a list of IoUs from 0 to 1, all of one length"),
        "seconds": (_is_number, "a finite number"),
        "passes": (_is_count, "a whole number from 0"),
    },
    "answers.json": {"question_id": _ID, "answer": (_is_text, "a text")},
}
"""What each row of a list must hold, by kind of list."""

_LISTED = ("panoptic.json", "captions.json", "classes.json", "answers.json", "interactive.json")
_ONCE: dict[str, tuple[str, ...]] = {**dict.fromkeys(_LISTED, ()), "referring.json": ("index",)}
"""Kinds that have one row for each image or question, or for each of these keys of it."""


def read_rows(path: Path, kind: str, known: Collection[Key] | None) -> dict[Key, list[Row]]:
    """The rows of each image (of answers: each question).

    Args:
        path: a JSON list, or an object with the list under `annotations`.
        kind: the name of such a list, such as captions.json.
        known: ids that the data set has; None = not known beforehand.

    Raises:
        ValueError: naming file and row: for a key that is missing or of another type, a score that is not finite, an id that
            the data set does not have, or a second row where there can be one.
    """
    content = read_json(path)
    rows = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise ValueError(f"{path}: expected a list of predictions, or an object with one under 'annotations'")
    keys, name = _KEYS[kind], next(iter(_KEYS[kind]))
    found: dict[Key, list[Row]] = {}
    seen: set[tuple[Any, ...]] = set()
    for number, row in enumerate(rows, start=1):
        where = f"{path}: row {number}"
        if not isinstance(row, dict):
            raise ValueError(f"{where} is {shown(row)}; expected an object with {', '.join(keys)}")
        for key, (fits, expected) in keys.items():
            if key not in row:
                raise ValueError(f"{where} has no {key!r}")
            if not fits(row[key]):
                raise ValueError(f"{where} has the {key} {shown(row[key])}; expected {expected}")
        about = row[name]
        if known is not None and about not in known:
            raise ValueError(f"{where} is of {name} {shown(about)}, which the data set does not have{_near(about, known)}")
        if kind in _ONCE:
            place = (about, *(row[key] for key in _ONCE[kind]))
            if place in seen:
                raise ValueError(f"{where} is the second of {name} {shown(about)}; there can be one")
            seen.add(place)
        found.setdefault(about, []).append(row)
    return found


def _near(key: Key, known: Collection[Key]) -> str:
    other: Key = str(key) if isinstance(key, int) else int(key) if key.isdecimal() and len(key) < 19 else key
    return f", but {shown(other)}: is it a number or a text?" if type(other) is not type(key) and other in known else ""
