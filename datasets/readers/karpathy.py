"""Karpathy's JSONs of COCO, Flickr30k and Flickr8k: captions and the splits in which the field retrieves.

Format: https://cs.stanford.edu/people/karpathy/deepimagesent/ (`images`, each with `filename`, `split` and `sentences`).
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from datasets.records import Contents, Record
from datasets.spec import DatasetSpec, Part
from xdecoder.files import read_json


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
        for row in rows:
            try:
                if row["split"] != self.subset:
                    continue
                captions = tuple(str(sentence["raw"]).strip() for sentence in row["sentences"])
                image = root / self.images / row.get("filepath", "") / row["filename"]
                records.append(Record(id=row.get("cocoid", row.get("imgid", row["filename"])), image=image, captions=captions))
            except (KeyError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"{path}: each of 'images' needs a split, a filename and sentences with a raw text (missing: {error})"
                ) from None
        if not records:
            found = sorted({str(row["split"]) for row in rows})
            raise ValueError(f"{path}: holds no picture of split {self.subset!r}; its splits are {', '.join(found) or 'none'}")
        return Contents(None, records)
