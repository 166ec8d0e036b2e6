"""Are the pictures and label images of a set there, and can they be decoded?"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from datasets.check.files import impostor
from datasets.check.finding import Finding, finding, grouped
from datasets.readers import Source
from datasets.readers.coco import outline_mask
from datasets.readers.images import read_image, read_regions
from datasets.records import Encoded, Record

THREADS = 8


def check_images(source: Source, every: bool = False, sample: int = 200) -> tuple[list[Finding], int]:
    """Findings, and how many pictures were decoded: `sample` of them spread over the set, or all."""
    found, there = ([], source.records) if source.spec.packed else _present(source)
    chosen = there if every else [there[i] for i in _spread(len(there), sample)]
    with ThreadPoolExecutor(THREADS) as threads:
        jobs = threads.map(lambda record: _faults(source, record), chosen)
        shown = tqdm(jobs, "decoding", len(chosen), unit="picture", disable=None, leave=False)
        return found + grouped(fault for faults in shown for fault in faults), len(chosen)


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
    return finding(f"{paths[0]}: no such {what}; {len(paths)} of {total} are missing")


def _spread(total: int, count: int) -> list[int]:
    return sorted({int(i) for i in np.linspace(0, total - 1, min(count, total)).round()}) if total else []


def _faults(source: Source, record: Record) -> list[str]:
    """What is wrong with one picture and what is annotated on it."""
    try:
        pixels = read_image(record)
    except ValueError as error:
        return [_told(record.image, error)]
    size = (pixels.shape[0], pixels.shape[1])
    outlines = [reference.outline for reference in record.references]
    outlines += [region.outline for region in record.regions or () if region.outline is not None]
    faults = []
    try:
        if source.vocabulary is not None and record.id_map is not None:
            read_regions(record, source.spec, source.vocabulary, size)
        empty = sum(not outline_mask(outline, *size, where=f"picture {record.id}").any() for outline in outlines)
        if empty:
            faults.append(f"picture {record.id}: {empty} of its annotated objects cover no pixel")
    except ValueError as error:
        faults.append(_told(record.id_map or record.image, error))
    return faults


def _told(path: Path | Encoded, error: ValueError) -> str:
    """The reader's sentence, or what the file is instead of a picture."""
    stand_in = impostor(path) if isinstance(path, Path) and path.is_file() and "damaged" in str(error) else None
    return f"{path}: {stand_in}" if stand_in else str(error)
