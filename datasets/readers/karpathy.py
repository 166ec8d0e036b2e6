"""Karpathy's JSONs of COCO, Flickr30k and Flickr8k: captions and the splits in which the field retrieves.

Format: https://cs.stanford.edu/people/karpathy/deepimagesent/ (`images`, each with `filename`, `split` and `sentences`).
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from datasets.readers.schema import Id, rows_of
from datasets.records import Contents, Record
from datasets.spec import DatasetSpec, Part
from xdecoder.files import read_json


class _Sentence(TypedDict):
    raw: str


class _Picture(TypedDict):
    filename: str
    split: str
    sentences: list[_Sentence]
    filepath: NotRequired[str]
    cocoid: NotRequired[Id]
    imgid: NotRequired[Id]


_PICTURES = TypeAdapter(list[_Picture])


class KarpathySpec(DatasetSpec):
    """Karpathy's JSON of captions and splits."""

    file_keys: ClassVar[tuple[str, ...]] = ("captions",)

    reader: Literal["karpathy"] = "karpathy"

    captions: str
    """The JSON."""

    subset: str
    """Which of its splits to take."""

    def provides(self) -> frozenset[Part]:
        return frozenset({"captions", "texts"})

    def read(self, root: Path) -> Contents:
        """Records of the pictures of one split, with all their captions."""
        path = root / self.captions
        content = read_json(path)
        rows = content.get("images") if isinstance(content, dict) else None
        if not isinstance(rows, list):
            raise ValueError(f"{path}: expected Karpathy's JSON, an object with a list 'images'")
        records = []
        pictures: list[_Picture] = rows_of(_PICTURES, rows, path, "images")
        for row in pictures:
            if row["split"] != self.subset:
                continue
            captions = tuple(sentence["raw"].strip() for sentence in row["sentences"])
            image = root / self.images / row.get("filepath", "") / row["filename"]
            records.append(Record(id=row.get("cocoid", row.get("imgid", row["filename"])), image=image, captions=captions))
        if not records:
            found = sorted({row["split"] for row in pictures})
            raise ValueError(f"{path}: holds no picture of split {self.subset!r}; its splits are {', '.join(found) or 'none'}")
        return Contents(None, records)
