"""From files on disk to records, whatever the format."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.findings import DataError, Finding, fatal
from datasets.readers.coco import CocoSpec
from datasets.records import Record
from datasets.spec import Counts, DatasetSpec
from xdecoder.memory import without_collector
from xdecoder.types import Vocabulary


@dataclass(frozen=True)
class Source:
    """What a reader found: the classes, where there are any, and one record a picture."""

    spec: DatasetSpec
    vocabulary: Vocabulary | None
    records: Sequence[Record]  # all of them, or `Pairs` that are read one by one
    findings: tuple[Finding, ...] = ()  # what is left out, and why


def read(spec: DatasetSpec, root: str | Path) -> Source:
    """Read the lists and JSONs of a data set; pictures stay closed.

    Raises:
        ValueError: one sentence naming the file at fault: no such root, no such file, an HTML page instead of JSON, ...
    """
    root = Path(root)
    if not root.is_dir() and not Path(spec.images).is_absolute():
        raise ValueError(f"data root {root} does not exist; set data.root to the folder that holds the data sets{_hint(spec)}")
    if not (root / spec.images).is_dir():
        raise ValueError(f"{root / spec.images}: no such folder; data set {spec.name!r} has its pictures there{_hint(spec)}")
    with without_collector():  # objects come by the million, and looking through them takes longer than reading them
        vocabulary, records, findings = spec.read(root)
    if fatal(findings):
        raise DataError([*fatal(findings), *(each for each in findings if not each.fatal)])
    if spec.part:
        records = share(records, spec.part)
    if not records:
        raise ValueError(f"data set {spec.name!r} under {root} holds no picture")
    if spec.count is not None and len(records) != spec.count:
        raise ValueError(f"data set {spec.name!r} under {root} has {len(records)} pictures; expected {spec.count}")
    _check_counts(spec, root, records)
    return Source(spec, vocabulary, records, findings)


def _check_counts(spec: DatasetSpec, root: Path, records: Sequence[Record]) -> None:
    known = {what: expected for what, expected in spec.counts if expected is not None}
    found = counts(records) if known else Counts()  # pictures by the million are not counted for nothing
    for what, expected in known.items():
        if getattr(found, what) != expected:
            raise ValueError(f"data set {spec.name!r} under {root} has {getattr(found, what)} {what}; expected {expected}")


def counts(records: Sequence[Record]) -> Counts:
    """How many of each kind the pictures have between them."""
    references = [reference for record in records for reference in record.references]
    return Counts(
        objects=len(references) + sum(len(record.regions or ()) + len(record.objects) for record in records),
        sentences=sum(len(reference.sentences) for reference in references),
        captions=sum(len(record.captions) for record in records),
        questions=sum(len(record.questions) for record in records),
    )


def share(records: Sequence[Record], part: str) -> list[Record]:
    """The training or the validation share of a set without splits; a picture keeps its share when others join.

    Raises:
        ValueError: if there are fewer than two pictures.
    """
    if len(records) < 2:
        raise ValueError("a set without splits of its own needs two pictures at least, one to learn from and one to measure on")
    names = [Path(str(record.image)).stem for record in records]
    if len(set(names)) < len(names):
        names = [str(record.id) for record in records]
    draws = [zlib.crc32(name.encode("utf-8", "surrogateescape")) for name in names]
    held = [draw % 5 == 0 for draw in draws]
    if all(held) or not any(held):
        held = [place == draws.index(min(draws)) for place in range(len(draws))]
    return [record for record, out in zip(records, held, strict=True) if out == (part == "val")]


def _hint(spec: DatasetSpec) -> str:
    return " (`python -m datasets.prepare shapes` makes it)" if isinstance(spec, CocoSpec) and spec.scenes else ""
