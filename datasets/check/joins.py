"""Do the ids of COCO's JSONs fit together: pictures, annotations, segments and categories?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from datasets.check.finding import Finding
from datasets.readers.coco import KINDS, CocoSpec
from datasets.spec import DatasetSpec
from xdecoder.files import read_json

_SAME_RELEASE = "fetch all annotation files of one release again, or mend the ids"


def check_joins(spec: DatasetSpec, root: Path) -> list[Finding]:
    """What does not join in the JSONs of a set; those that a reader refuses as a whole are not looked at here."""
    listed: dict[str, set[Any]] = {}
    found: list[Finding] = []
    for kind in KINDS:
        path = getattr(spec, kind) if isinstance(spec, CocoSpec) else None
        if not path:
            continue
        content = read_json(root / path)
        if not isinstance(content, dict):
            continue
        found += [Finding(f"{root / path}: {what}", _SAME_RELEASE) for what in _faults(content)]
        if "images" in content:
            listed[kind] = {row.get("id") for row in _rows(content, "images")}
    main, *others = listed or ("",)
    for kind in others:
        if not listed[main] & listed[kind]:
            what = f"{root / str(getattr(spec, kind))}: has no picture in common with {root / str(getattr(spec, main))}"
            found.append(Finding(what, "name the files of one split"))
    return found


def _faults(content: dict[str, Any]) -> Iterator[str]:
    images, annotations, categories = (_rows(content, key) for key in ("images", "annotations", "categories"))
    for what, rows in (("images", images), ("annotations", annotations), ("categories", categories)):
        twice = _twice(row["id"] for row in rows if "id" in row)
        if twice:
            yield f"{what} {_some(twice)} have an id that stands more than once"
    twice = _twice(row["file_name"] for row in images if "file_name" in row)
    if twice:
        yield f"pictures {_some(twice)} are listed more than once"
    known = {row.get("id") for row in images}
    lost = {row.get("image_id") for row in annotations} - known if images else set()
    if lost:
        yield f"annotations name pictures {_some(lost)}, which 'images' does not list"
    classes = {row.get("id") for row in categories}
    segments = [segment for row in annotations for segment in (row.get("segments_info") or [row])]
    strange = {row["category_id"] for row in segments if "category_id" in row} - classes if categories else set()
    if strange:
        yield f"annotations name categories {_some(strange)}, which 'categories' does not list"
    clashing = [row.get("image_id") for row in annotations if _twice(s.get("id") for s in row.get("segments_info") or [])]
    if clashing:
        yield f"pictures {_some(clashing)} have two segments of one id"


def _rows(content: dict[str, Any], key: str) -> list[dict[str, Any]]:
    rows = content.get(key)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _twice(values: Iterable[Any]) -> list[Any]:
    return [value for value, count in Counter(values).items() if count > 1]


def _some(values: Iterable[Any]) -> str:
    """The first three, and how many more there are."""
    names = sorted(map(str, values))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
