"""RefCOCO, RefCOCO+ and RefCOCOg as their authors hand them out: `refs(split_by).p` beside `instances.json`.

Format: https://github.com/lichengunc/refer. The list of expressions is pickled; it is read by an unpickler that knows plain
values only, so nothing in it can run.
"""

from __future__ import annotations

import pickle
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NotRequired, Required

from pydantic import ConfigDict, TypeAdapter
from typing_extensions import TypedDict

from datasets.readers.classes import renamed
from datasets.readers.schema import Id, Sentence, rows_of, texts_of
from datasets.records import Contents, Record, Reference
from datasets.spec import DatasetSpec, Part, Rename
from xdecoder.files import FileError, read_json, regular

Json = dict[str, Any]


class _Ref(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    ann_id: Required[Id]
    sentences: Required[list[Sentence]]
    split: Required[str]
    ref_id: Id | None


class _Image(TypedDict):
    id: Id
    file_name: str
    height: NotRequired[int | None]
    width: NotRequired[int | None]


class _Annotation(TypedDict):
    id: Id
    image_id: Id
    segmentation: Any


_REFS, _IMAGES, _ANNOTATIONS = TypeAdapter(list[_Ref]), TypeAdapter(list[_Image]), TypeAdapter(list[_Annotation])


class ReferSpec(DatasetSpec):
    """A pickled list of referring expressions beside the instances."""

    file_keys: ClassVar[tuple[str, ...]] = ("phrases", "instances")

    reader: Literal["refer"] = "refer"

    phrases: str
    """The pickled list."""

    instances: str
    """COCO instances JSON, which has the outlines."""

    subset: str
    """Which of its splits to take."""

    image_rename: Rename = ()
    """How a picture's path in `images` follows from what the JSON calls it."""

    def provides(self) -> frozenset[Part]:
        return frozenset({"references"})

    def read(self, root: Path) -> Contents:
        """Records of the pictures of one split that somebody refers to, in the order of the instances' `images`."""
        references: dict[Any, list[Reference]] = defaultdict(list)
        path = root / self.instances
        images, annotations = read_instances(path)
        for ref in refs(root / self.phrases, self.subset):
            if ref["ann_id"] not in annotations:
                raise ValueError(f"{path}: lacks annotation {ref['ann_id']}, which {self.phrases} refers to")
            annotation = annotations[ref["ann_id"]]
            references[annotation["image_id"]].append(
                Reference(annotation["segmentation"], texts_of(ref["sentences"]), ref.get("ref_id") or ref["ann_id"])
            )
        lost = set(references) - set(images)
        if lost:
            raise ValueError(f"{path}: lacks image {min(lost, key=str)}, which one of its annotations names")
        return contents(images, references, root / self.images, self.image_rename)


def refs(path: Path, split: str) -> list[Json]:
    """The expressions of a split: its name, or for `testA`, `testB`, ... also a name of several ("testAB").

    Raises:
        ValueError: if the file is no plain pickled list of expressions, or has none of that split.
    """
    rows: list[Json] = rows_of(_REFS, _plain_pickle(path), path, "expressions")
    letter = split.removeprefix("test")
    wanted = [
        row
        for row in rows
        if row["split"] == split or (split.startswith("test") and "test" in row["split"] and letter in row["split"])
    ]
    if not wanted:
        raise ValueError(f"{path}: has no split {split!r}; its splits are {', '.join(sorted({row['split'] for row in rows}))}")
    return wanted


class _PlainUnpickler(pickle.Unpickler):
    """Numbers, texts, lists and dictionaries. Whatever else a pickle can hold begins with looking up a name."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _plain_pickle(path: Path) -> Any:
    try:
        with open(regular(path), "rb") as file:
            return _PlainUnpickler(file, encoding="utf-8", errors="replace").load()  # written by Python 2
    except FileError:
        raise
    except Exception as error:  # a damaged pickle fails in every way there is
        raise ValueError(f"{path}: expected a pickle of plain lists and texts, as RefCOCO's authors made ({error})") from None


def contents(
    images: Mapping[Any, Json], references: Mapping[Any, Sequence[Reference]], folder: Path, rename: Rename
) -> Contents:
    """Records of those of the pictures, by id, to which something refers; they lie in a folder, under names that follow."""
    return Contents(
        None,
        [
            Record(
                id=key,
                image=folder / renamed(image["file_name"], rename),
                height=image.get("height"),
                width=image.get("width"),
                references=tuple(references[key]),
            )
            for key, image in images.items()
            if key in references
        ],
    )


def read_instances(path: Path) -> tuple[dict[Any, Json], dict[Any, Json]]:
    """Pictures and annotations of a COCO JSON by their ids; raises ValueError if it is none."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected COCO instances, an object with 'images' and 'annotations'")
    images: list[Json] = rows_of(_IMAGES, content.get("images"), path, "images")
    annotations: list[Json] = rows_of(_ANNOTATIONS, content.get("annotations"), path, "annotations")
    return {row["id"]: row for row in images}, {row["id"]: row for row in annotations}
