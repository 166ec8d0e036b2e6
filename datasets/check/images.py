"""Are the pictures and label images of a set there, and can they be decoded?"""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from datasets.check.files import impostor
from datasets.findings import Finding, Findings, advice_for, findings_of
from datasets.outlines import outline_mask
from datasets.readers import Source
from datasets.readers.images import read_image, read_regions, where_of
from datasets.records import Encoded, Record
from xdecoder.files import FileError

THREADS = 8


def check_images(source: Source, every: bool = False, sample: int = 200) -> tuple[list[Finding], int]:
    """Findings, and how many pictures were decoded: `sample` of them spread over the set, or all."""
    found, there = ([], source.records) if source.spec.packed else _present(source)
    chosen = there if every else [there[i] for i in _spread(len(there), sample)]
    with ThreadPoolExecutor(THREADS) as threads:
        jobs = threads.map(lambda record: _faults(source, record), chosen)
        shown = tqdm(jobs, "decoding", len(chosen), unit="picture", disable=None, leave=False)
        told = Findings()
        for fault in (fault for faults in shown for fault in faults):
            for label in fault.labels:
                told.add(fault.kind, fault.finding.what, fault.finding.advice, fault.finding.fatal, label)
        return [*found, *told.told()], len(chosen)


def _present(source: Source) -> tuple[list[Finding], list[Record]]:
    """Findings about files that are not there, and the records whose files are."""
    records = source.records
    absent = {
        "picture": _absent(record.image for record in records if isinstance(record.image, Path)),
        "label image": _absent(path for record in records for path in (record.id_map, record.label_map) if path),
    }
    gone = {path for paths in absent.values() for path in paths}
    found = [_missing(what, paths, len(records)) for what, paths in absent.items() if paths]
    return found, [record for record in records if not gone & {record.image, record.id_map, record.label_map}]


def _absent(paths: Iterable[Path]) -> list[Path]:
    """Files that are not there; a folder is listed once, however many files it should hold."""
    held: dict[Path, set[str]] = {}
    lost = []
    for path in paths:
        if path.parent not in held:
            held[path.parent] = {other.name for other in path.parent.iterdir()} if path.parent.is_dir() else set()
        if path.name not in held[path.parent]:
            lost.append(path)
    return lost


def _missing(what: str, paths: list[Path], total: int) -> Finding:
    return Finding(f"{paths[0]}: no such {what}; {len(paths)} of {total} are missing", advice_for("missing"))


def _spread(total: int, count: int) -> list[int]:
    return sorted({int(i) for i in np.linspace(0, total - 1, min(count, total)).round()}) if total else []


@dataclass(frozen=True)
class _Fault:
    """What is wrong with one picture; those of one kind are told once."""

    kind: str
    finding: Finding
    labels: tuple[str | None, ...] = (None,)


def _faults(source: Source, record: Record) -> list[_Fault]:
    """What is wrong with one picture and what is annotated on it: what training says of it, and what it does not see."""
    try:
        pixels = read_image(record)
    except ValueError as error:
        return [_told(record.image, error)]
    size = (pixels.shape[0], pixels.shape[1])
    names = source.vocabulary.names if source.vocabulary else ()
    objects = [(region.outline, names[region.label]) for region in record.regions or () if region.outline is not None]
    objects += [(reference.outline, "") for reference in record.references]
    try:
        if source.vocabulary is not None and record.id_map is not None:
            read_regions(record, source.spec, source.vocabulary, size)
        where = where_of(source.spec, record)
        empty = tuple(label or None for outline, label in objects if not outline_mask(outline, *size, where=where).any())
    except ValueError as error:
        return [_told(record.id_map or record.image, error)]
    if not empty:
        return []
    what = f"picture {record.id}: {len(empty)} of its annotated objects cover no pixel"
    return [_Fault("no pixel", Finding(what, "mend these annotations, or leave them out; they teach nothing"), empty)]


def _told(path: Path | Encoded, error: ValueError) -> _Fault:
    """The reader's sentence, or what the file is instead of a picture."""
    stand_in = impostor(path) if isinstance(path, Path) and path.is_file() and isinstance(error, FileError) else None
    finding = stand_in or findings_of(error)[0]
    return _Fault(re.sub(r"'[^']*'|\S*[/\\]\S*|\d+", "#", finding.what), finding)
