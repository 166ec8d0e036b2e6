"""RefCOCO, RefCOCO+ and RefCOCOg as their authors hand them out: `refs(split_by).p` beside `instances.json`.

Format: https://github.com/lichengunc/refer. The list of expressions is pickled; it is read by an unpickler that knows plain
values only, so nothing in it can run.
"""

from __future__ import annotations

import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar, Literal

from datasets.readers.classes import renamed
from datasets.records import Contents, Record, Reference
from datasets.spec import DatasetSpec, Part, Rename
from xdecoder.files import read_json

Json = dict[str, Any]


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
        images, annotations = _instances(path)
        for ref in refs(root / self.phrases, self.subset):
            if ref["ann_id"] not in annotations:
                raise ValueError(f"{path}: lacks annotation {ref['ann_id']}, which {self.phrases} refers to")
            annotation = annotations[ref["ann_id"]]
            texts = tuple(str(sentence.get("raw") or sentence.get("sent", "")).strip().lower() for sentence in ref["sentences"])
            references[annotation["image_id"]].append(
                Reference(annotation["segmentation"], tuple(text for text in texts if text), ref.get("ref_id") or ref["ann_id"])
            )
        lost = set(references) - set(images)
        if lost:
            raise ValueError(f"{path}: lacks image {min(lost)}, which one of its annotations names")
        return Contents(
            None,
            [
                Record(
                    id=key,
                    image=root / self.images / renamed(image["file_name"], self.image_rename),
                    height=image.get("height"),
                    width=image.get("width"),
                    references=tuple(references[key]),
                )
                for key, image in images.items()
                if key in references
            ],
        )


def refs(path: Path, split: str) -> list[Json]:
    """The expressions of a split: its name, or for `testA`, `testB`, ... also a name of several ("testAB").

    Raises:
        ValueError: if the file is no plain pickled list of expressions, or has none of that split.
    """
    rows = _plain_pickle(path)
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and {"ann_id", "sentences", "split"} <= row.keys() for row in rows
    ):
        raise ValueError(f"{path}: expected a list of expressions with an ann_id, sentences and a split each")
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
        with open(path, "rb") as file:
            return _PlainUnpickler(file, encoding="utf-8", errors="replace").load()  # written by Python 2
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except Exception as error:  # a damaged pickle fails in every way there is
        raise ValueError(f"{path}: expected a pickle of plain lists and texts, as RefCOCO's authors made ({error})") from None


def _instances(path: Path) -> tuple[dict[Any, Json], dict[Any, Json]]:
    content = read_json(path)
    try:
        images = {row["id"]: row for row in content["images"] if row["file_name"]}
        annotations = {row["id"]: row for row in content["annotations"] if row["segmentation"] and row["image_id"] is not None}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected COCO instances, with 'images' and 'annotations' (missing: {error})") from None
    return images, annotations
