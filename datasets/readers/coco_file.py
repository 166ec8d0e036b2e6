"""One JSON of COCO's: its pictures, its classes, and its rows, checked against a schema before anything is made of them.

Two things that exporters disagree about are understood alike everywhere: ids may be numbers or texts of numbers, and a category
that others name as their supercategory and that no annotation has is no class.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import BeforeValidator, Field, TypeAdapter
from typing_extensions import TypedDict

from datasets.findings import Findings, refuse
from datasets.readers.classes import checked_names, is_background
from datasets.readers.schema import MEND, Id, rows_of
from xdecoder.files import read_json, shown
from xdecoder.types import Vocabulary

MOST_CATEGORIES = 100_000
MEND_IDS = "fetch all annotation files of one release again, or mend the ids"


def _named(name: Any) -> Any:
    return str(name) if isinstance(name, (int, float)) and not isinstance(name, bool) else name


Side = Annotated[int, Field(gt=0, le=1_000_000)]
Name = Annotated[str, BeforeValidator(_named)]  # some exporters write numbers


class Picture(TypedDict):
    id: Id
    file_name: NotRequired[Annotated[str, Field(min_length=1, max_length=4096)]]
    height: NotRequired[Side | None]
    width: NotRequired[Side | None]


class _Category(TypedDict):
    id: Id
    name: Name
    isthing: NotRequired[bool | None]
    supercategory: NotRequired[Any]


class _Segment(TypedDict):
    id: Annotated[int, Field(ge=0, lt=1 << 24)]
    category_id: Id
    iscrowd: NotRequired[bool | None]


class Panoptic(TypedDict):
    image_id: Id
    file_name: Annotated[str, Field(min_length=1, max_length=4096)]
    segments_info: list[_Segment]


_PICTURES, _CATEGORIES, PANOPTICS = TypeAdapter(list[Picture]), TypeAdapter(list[_Category]), TypeAdapter(list[Panoptic])


@dataclass(frozen=True)
class File:
    """One JSON: its pictures by id, and the rest as it stands."""

    path: Path
    content: dict[str, Any]
    pictures: dict[Id, Picture]
    twice: tuple[Id, ...]  # ids of several pictures
    listed: bool  # whether the file lists its pictures; some panoptic ones do not

    @classmethod
    def read(cls, path: Path) -> File:
        """Raises ValueError if it is no COCO JSON, or its pictures are not listed as they should be."""
        content = read_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
            raise refuse(f"{path}: expected a COCO JSON, an object with a list 'annotations'", MEND)
        listed = "images" in content
        rows = rows_of(_PICTURES, content["images"], path, "images") if listed else _pictures_of_pngs(content, path)
        pictures: dict[Id, Picture] = {row["id"]: row for row in rows}
        texts = Counter(str(row["id"]) for row in rows) if len(pictures) < len(rows) else {}
        twice = tuple(key for key in pictures if texts.get(str(key), 1) > 1)
        return cls(path, content, pictures, twice, listed)

    @property
    def is_panoptic(self) -> bool:
        rows = self.content["annotations"]
        return bool(rows) and isinstance(rows[0], dict) and "segments_info" in rows[0]

    def rows(self, schema: TypeAdapter[Any], key: str = "annotations") -> list[Any]:
        """A list of the file, checked; image ids are those of the pictures, whether written as numbers or as texts."""
        rows = rows_of(schema, self.content.get(key, []), self.path, key)
        if rows and "image_id" in rows[0] and any(row["image_id"] not in self.pictures for row in rows):
            by_text = {str(known): known for known in self.pictures}
            for row in rows:
                row["image_id"] = by_text.get(str(row["image_id"]), row["image_id"])
        return rows

    def check_pictures(self, found: Findings, strict: bool) -> None:
        """Are pictures listed once?"""
        where = f"{self.path}: "
        for key in self.twice:
            what = f"{where}images have the id {shown(key)} more than once"
            found.add(f"{where}image id", what, MEND_IDS, strict)
        names = [row["file_name"] for row in self.pictures.values() if "file_name" in row]
        if len(set(names)) < len(names):
            for name, count in Counter(names).items():
                if count > 1:
                    what = f"{where}picture {shown(name)} is listed more than once"
                    found.add(f"{where}file name", what, MEND_IDS, strict)

    def check_joins(self, rows: Sequence[Mapping[str, Any]], found: Findings, strict: bool) -> None:
        """Are the pictures of annotations listed, and are annotations told apart by their ids?"""
        where = f"{self.path}: "
        if self.listed and not {row["image_id"] for row in rows} <= self.pictures.keys():
            for row in rows:
                if row["image_id"] not in self.pictures:
                    what = f"{where}an annotation is of picture {shown(row['image_id'])}, which 'images' does not list"
                    found.add(f"{where}lost", what, MEND_IDS, strict)
        keys = [key for row in rows if (key := row.get("id")) is not None]
        if len(set(keys)) < len(keys):
            for key, count in Counter(keys).items():
                for _ in range(count - 1):
                    what = f"{where}annotations have the id {shown(key)} more than once"
                    found.add(f"{where}annotation id", what, MEND_IDS, strict)


@dataclass(frozen=True)
class Categories:
    """The classes of a file by their category ids, in ascending order."""

    names: dict[Id, str]
    things: dict[Id, bool]
    background: frozenset[Id]  # what a file calls background is no class

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(tuple(self.names.values()), tuple(self.things.values()))

    @classmethod
    def read(cls, file: File, used: Collection[Any]) -> Categories:
        """Raises ValueError for none, blank or equal names.

        Args:
            used: category ids of the annotations.
        """
        rows = rows_of(_CATEGORIES, file.content.get("categories"), file.path, "categories")
        if not 0 < len(rows) <= MOST_CATEGORIES:
            raise refuse(f"{file.path}: has {len(rows)} categories; expected 1 to {MOST_CATEGORIES}", MEND)
        twice = [key for key, count in Counter(str(row["id"]) for row in rows).items() if count > 1]
        if twice:
            raise refuse(f"{file.path}: categories have the id {twice[0]} more than once", MEND_IDS)
        rows.sort(key=lambda row: (isinstance(row["id"], str), row["id"]))
        seen = set(map(str, used))
        above = {row.get("supercategory") for row in rows if isinstance(row.get("supercategory"), str)}
        roots = {row["id"] for row in rows if row["name"] in above and str(row["id"]) not in seen and _is_root(row, rows)}
        rows = [row for row in rows if row["id"] not in roots]
        background = frozenset(row["id"] for row in rows if is_background(row["name"]))
        rows = [row for row in rows if row["id"] not in background]
        names = checked_names([row["name"] for row in rows], str(file.path))
        ids = [row["id"] for row in rows]
        unsaid = [row["name"] for row in rows if row.get("isthing") is None and file.is_panoptic]
        if unsaid:
            what = f"{file.path}: category {shown(unsaid[0])} lacks 'isthing' (1: countable things, 0: stuff such as sky)"
            raise refuse(what, "add it to each category; panoptic scores need to know")
        things = {row["id"]: row.get("isthing") is not False for row in rows}
        return cls(dict(zip(ids, names, strict=True)), things, background)


def category_ids(path: Path) -> list[int]:
    """The category ids of a file's classes, in the order of their labels; raises ValueError for ids that are no numbers."""
    file = File.read(path)
    rows = [row for row in file.content["annotations"] if isinstance(row, dict)]
    used = {row.get("category_id") if isinstance(row.get("category_id"), (int, str)) else None for row in rows}
    used |= {info["category_id"] for row in rows if "segments_info" in row for info in row["segments_info"]}
    ids = list(Categories.read(file, used).names)
    strange = [key for key in ids if not str(key).isdecimal()]
    if strange:
        raise refuse(f"{path}: category id {shown(strange[0])} is no number, as the formats of predictions need it", MEND_IDS)
    return [int(key) for key in ids]


def _is_root(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether others name this category as the one above them."""
    return any(other.get("supercategory") == row["name"] for other in rows if other is not row)


def _pictures_of_pngs(content: dict[str, Any], path: Path) -> list[Picture]:
    """Some panoptic files carry file names of the PNGs only; others that list no pictures stand beside a file that does."""
    first = next(iter(content["annotations"]), None)
    if not (isinstance(first, dict) and "segments_info" in first):
        return []
    rows: list[Panoptic] = rows_of(PANOPTICS, content["annotations"], path, "annotations")
    return [{"id": row["image_id"], "file_name": Path(row["file_name"]).stem + ".jpg"} for row in rows]
