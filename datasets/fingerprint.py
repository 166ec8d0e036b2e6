"""Whether the files that a run learns from are those that it began with."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from datasets.spec import DatasetSpec

MOST_SIZES = 300_000
"""Files of a set whose sizes are looked at; of those beyond, only the names count."""


def fingerprint(specs: Iterable[DatasetSpec], root: Path) -> dict[str, dict[str, Any]]:
    """For each set the number of its files, their bytes and a digest of their names and sizes; no file is opened."""
    return {spec.name: _of(spec, root) for spec in specs}


def _of(spec: DatasetSpec, root: Path) -> dict[str, Any]:
    values = spec.resolved().model_dump(exclude={"name", "reader", "protocol"}).values()
    given = [text for value in values for text in (value if isinstance(value, (list, tuple)) else (value,))]
    paths = sorted({root / text for text in given if isinstance(text, str) and text and "://" not in text and "\0" not in text})
    digest, files, size = hashlib.sha256(), 0, 0
    for path in paths:
        for name, length in _files(path):
            sized = length if files < MOST_SIZES else 0
            digest.update(f"{name}\0{sized}\0".encode(errors="surrogateescape"))
            files, size = files + 1, size + sized
    return {"files": files, "bytes": size, "sha256": digest.hexdigest()}


def _files(path: Path) -> Iterator[tuple[str, int]]:
    """Names below `path` and sizes, in an order that is the same everywhere; nothing for what is not there."""
    try:
        if path.is_file():
            yield path.name, path.stat().st_size
            return
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.is_dir():
            yield from ((f"{entry.name}/{name}", size) for name, size in _files(Path(entry.path)))
        elif entry.is_file():
            yield entry.name, entry.stat().st_size


def differences(before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each set whose files have changed."""
    return [
        f"data set {name!r}: its files are not those that the run began with ({_told(before[name])} then, {_told(found)} now)"
        for name, found in now.items()
        if name in before and before[name] != found
    ]


def _told(found: Mapping[str, Any]) -> str:
    return f"{found.get('files')} files of {found.get('bytes')} bytes, digest {str(found.get('sha256'))[:8]}"
