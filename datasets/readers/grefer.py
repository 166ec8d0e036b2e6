"""gRefCOCO: expressions that mean one object, several, or nothing, as JSON beside COCO's instances.

Format: https://github.com/henghuiding/gRefCOCO. An expression points at a list of annotations, or at -1 alone if what it says
is not in its picture. Its authors hand out a pickle of the same content, too, which is not read.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar, Literal, Required

from pydantic import ConfigDict, TypeAdapter
from typing_extensions import TypedDict

from datasets import outlines
from datasets.findings import refuse
from datasets.readers.refer import contents, read_instances
from datasets.readers.schema import MEND, Id, Sentence, rows_of, texts_of
from datasets.records import Contents, Reference
from datasets.spec import DatasetSpec, Part, Rename
from xdecoder.files import read_json

NOTHING = -1


class _Ref(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    ref_id: Required[Id]
    image_id: Required[Id]
    ann_id: Required[list[Id] | Id]
    split: Required[str]
    sentences: Required[list[Sentence]]
    kind: str


_REFS = TypeAdapter(list[_Ref])


class GreferSpec(DatasetSpec):
    """A list of expressions, some of which mean nothing, beside the instances."""

    file_keys: ClassVar[tuple[str, ...]] = ("phrases", "instances")

    reader: Literal["grefer"] = "grefer"

    phrases: str
    """JSON list of the expressions, such as grefs(unc).json."""

    instances: str
    """COCO instances JSON, which has the outlines and lists the pictures."""

    subset: str
    """Which of its splits to take."""

    image_rename: Rename = ()
    """How a picture's path in `images` follows from what the JSON calls it."""

    def provides(self) -> frozenset[Part]:
        return frozenset({"references"})

    def read(self, root: Path) -> Contents:
        """Records of the pictures of one split about which something is said, in the order of the instances' `images`."""
        path, where = root / self.phrases, root / self.instances
        images, annotations = read_instances(where)
        references: dict[Any, list[Reference]] = defaultdict(list)
        for ref in _refs(path, self.subset):
            if ref["image_id"] not in images:
                raise refuse(f"{where}: lacks image {ref['image_id']}, about which {self.phrases} says something")
            ids = ref["ann_id"] if isinstance(ref["ann_id"], list) else [ref["ann_id"]]
            lost = [key for key in ids if key not in annotations and key != NOTHING]
            if lost:
                raise refuse(f"{where}: lacks annotation {lost[0]}, which {self.phrases} refers to")
            meant = [annotations[key] for key in ids if key != NOTHING]
            if texts := texts_of(ref["sentences"]):
                held = Reference(_united(meant, where), texts, ref["ref_id"], kind=ref.get("kind", ""))
                references[ref["image_id"]].append(held)
        return contents(images, references, root / self.images, self.image_rename)


def _refs(path: Path, split: str) -> list[Any]:
    rows = rows_of(_REFS, read_json(path), path, "expressions")
    wanted = [row for row in rows if row["split"] == split]
    if not wanted:
        known = ", ".join(sorted({row["split"] for row in rows})) or "none"
        raise refuse(f"{path}: has no split {split!r}; its splits are {known}", MEND)
    return wanted


def _united(annotations: list[dict[str, Any]], path: Path) -> list[Any]:
    """The outlines of all objects that an expression means, crowds left out; [] if it means nothing."""
    parts: list[Any] = []
    for row in annotations:
        if row.get("iscrowd"):
            continue
        try:
            parts += outlines.parse(row["segmentation"])
        except ValueError as error:
            raise refuse(f"{path}: annotation {row['id']}: {error}", MEND) from None
    return parts
