"""SA-Co: pictures with noun phrases and all their instances, or none, by several annotators.

Format: COCO's, in which an entry of `images` is a picture *and* a phrase, so that a picture comes once for each of its phrases
(https://huggingface.co/datasets/facebook/SACo-Gold). There is one file for each annotator.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar, Literal, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from datasets.findings import refuse
from datasets.outlines import RunLengths, outline_code
from datasets.readers.schema import MEND, Id, rows_of
from datasets.records import Contents, Record, Reference
from datasets.spec import DatasetSpec, Part
from xdecoder.files import read_json


class _Asked(TypedDict):
    id: Id
    file_name: str
    text_input: str
    width: int
    height: int
    is_instance_exhaustive: NotRequired[bool | int]


class _Instance(TypedDict):
    image_id: Id
    segmentation: Any


_ASKED, _INSTANCES = TypeAdapter(list[_Asked]), TypeAdapter(list[_Instance])


class SacoSpec(DatasetSpec):
    """One subset of SA-Co, a file for each annotator."""

    file_keys: ClassVar[tuple[str, ...]] = ()

    reader: Literal["saco"] = "saco"

    annotators: tuple[str, ...]
    """A JSON of each annotator, of the same pictures and phrases."""

    def provides(self) -> frozenset[Part]:
        return frozenset({"references"})

    def read(self, root: Path) -> Contents:
        """A record for each picture and phrase of which all annotators have found all instances, in the first file's order."""
        first, *others = [_asked(root / path) for path in self.annotators]
        held = truths(root / self.annotators[0])
        left = [row for key, row in first.items() if all(_complete(other.get(key)) for other in (first, *others))]
        return Contents(
            None,
            [
                Record(
                    id=row["id"],
                    image=root / self.images / row["file_name"],
                    height=row["height"],
                    width=row["width"],
                    references=(Reference(held.get(row["id"], []), (row["text_input"].strip(),), row["id"]),),
                )
                for row in left
            ],
        )


def _complete(row: _Asked | None) -> bool:
    return row is not None and bool(row.get("is_instance_exhaustive", True))


def _asked(path: Path) -> dict[Any, Any]:
    rows: list[_Asked] = rows_of(_ASKED, _content(path).get("images"), path, "images")
    return {row["id"]: row for row in rows}


def truths(path: Path) -> dict[int | str, list[RunLengths]]:
    """One annotator's outlines by picture and phrase; raises ValueError, naming the file, for what is none."""
    content = _content(path)
    sizes = {row["id"]: (row["height"], row["width"]) for row in rows_of(_ASKED, content.get("images"), path, "images")}
    found: dict[int | str, list[RunLengths]] = defaultdict(list)
    rows: list[_Instance] = rows_of(_INSTANCES, content.get("annotations"), path, "annotations")
    for row in rows:
        key = row["image_id"]
        if key not in sizes:
            raise refuse(f"{path}: an annotation is of {key}, which 'images' does not list", MEND)
        code = outline_code(row["segmentation"], *sizes[key], where=f"{path}: picture {key}")
        if code is not None:
            found[key].append(code)
    return dict(found)


def _content(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise refuse(f"{path}: expected SA-Co's form, an object with 'images' and 'annotations'", MEND)
    return content
