"""From files on disk to records, whatever the format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.readers import captions, coco, columns, label_images, tar
from datasets.spec import DatasetSpec, Record
from xdecoder.types import Vocabulary


@dataclass(frozen=True)
class Source:
    """What a reader found: the classes, where there are any, and one record a picture."""

    spec: DatasetSpec
    vocabulary: Vocabulary | None
    records: Sequence[Record]       # all of them, or `Pairs` that are read one by one


def read(spec: DatasetSpec, root: str | Path) -> Source:
    """Read the lists and JSONs of a data set; pictures stay closed.

    Raises:
        ValueError: one sentence naming the file at fault: no such root, no such file, an HTML page instead of JSON, ...
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"data root {root} does not exist; set data.root to the folder that holds the data sets{_hint(spec)}")
    if not (root / spec.images).is_dir():
        raise ValueError(f"{root / spec.images}: no such folder; data set {spec.name!r} has its pictures there{_hint(spec)}")
    readers = {
        "coco": coco.read, "label_images": label_images.read, "captions": captions.read,
        "arrow": columns.read_arrow, "parquet": columns.read_parquet, "tar": tar.read,
    }  # fmt: skip
    vocabulary: Vocabulary | None
    records: Sequence[Record]
    vocabulary, records = readers[spec.reader](spec, root)
    if not records:
        raise ValueError(f"data set {spec.name!r} under {root} holds no picture")
    if spec.count is not None and len(records) != spec.count:
        raise ValueError(f"data set {spec.name!r} under {root} has {len(records)} pictures; expected {spec.count}")
    return Source(spec, vocabulary, records)


def _hint(spec: DatasetSpec) -> str:
    return " (`python -m datasets.prepare shapes` makes it)" if spec.scenes else ""
