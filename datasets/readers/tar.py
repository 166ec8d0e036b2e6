"""WebDataset shards: tar files in which neighbours of one name make a sample, such as 000017.jpg and 000017.txt.

A shard is read through once to learn where its samples lie, and that index is kept under the data root. From then on any sample
is one short read, out of a file or from a server, so that samples come in any order and nobody reads what others need.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile

import numpy as np

from datasets.readers import remote
from datasets.readers.pairs import Pairs, files, record
from datasets.spec import DatasetSpec, Record
from xdecoder.files import atomic

IMAGES = ("jpg", "jpeg", "png", "webp")
TEXTS = ("txt", "json")
BLOCK = 512
READERS = 8  # shards that are indexed at a time


@dataclass(frozen=True)
class Index:
    """Where the samples of a shard lie; all numbers in bytes from its start."""

    keys: np.ndarray  # (N,) bytes: the samples' names
    spans: np.ndarray  # (N, 4) int64: start and size of the picture, start and size of the text; 0 0 = no text
    is_json: np.ndarray  # (N,) bool: whether the text is JSON
    size: int  # of the shard


@dataclass(frozen=True)
class Shard:
    """The samples of one tar file."""

    place: Path | str
    index: Index
    caption_key: str

    def __len__(self) -> int:
        return len(self.index.keys)

    def read(self, row: int) -> Record:
        name = self.index.keys[row].decode("utf-8", "replace")
        where = f"{self.place}: {name}"
        image, size, text, length = self.index.spans[row].tolist()
        first, last = min(image, text or image), max(image + size, text + length)  # neighbours, so one read gets both
        data = self._bytes(first, last - first)
        captions: Any = data[text - first : text - first + length].decode("utf-8", "replace") if length else None
        if captions is not None and self.index.is_json[row]:
            captions = _caption(captions, self.caption_key, where)
        return record(data[image - first : image - first + size], captions, name, Path(), where)

    def _bytes(self, start: int, size: int) -> bytes:
        if isinstance(self.place, str):
            return remote.read(self.place, start, size, self.index.size)
        with open(self.place, "rb") as file:
            file.seek(start)
            data = file.read(size)
        if len(data) < size:
            raise ValueError(f"{self.place}: has become shorter since training began; fetch it again")
        return data


def read(spec: DatasetSpec, root: Path) -> tuple[None, Pairs]:
    """All samples of the shards that have a picture, in order."""
    places = files(spec, root)
    with ThreadPoolExecutor(READERS) as pool:
        indices = list(pool.map(partial(_index, root / ".index"), places))
    shards = [Shard(place, index, spec.caption_column) for place, index in zip(places, indices, strict=True)]
    return None, Pairs(shards, remote=any(isinstance(place, str) for place in places))


def _index(folder: Path, place: Path | str) -> Index:
    """The shard's index as it was kept, or learnt now and kept if the folder can be written."""
    stamp = "" if isinstance(place, str) else f"{place.stat().st_size} {place.stat().st_mtime_ns}"
    path = folder / f"{Path(place).name}.{zlib.crc32(str(place).encode()):08x}.npz"
    with _alone(path.with_suffix(".lock")):
        kept = _kept(path, stamp)
        if kept:
            return kept
        with _open(place) as stream:
            index = _learn(stream, place)
        with suppress(OSError), atomic(path) as file:  # a folder that cannot be written costs time at the next start
            np.savez(
                file, keys=index.keys, spans=index.spans, is_json=index.is_json, size=np.int64(index.size), stamp=np.str_(stamp)
            )
        return index


def _kept(path: Path, stamp: str) -> Index | None:
    with suppress(OSError, ValueError, KeyError, EOFError, BadZipFile), np.load(path, allow_pickle=False) as found:
        if str(found["stamp"]) == stamp:
            return Index(found["keys"], found["spans"], found["is_json"], int(found["size"]))
    return None


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """The processes of a run that need the same index wait for the first to make it; where files cannot be locked each does."""
    with ExitStack() as stack:
        with suppress(OSError, ImportError):
            import fcntl

            lock.parent.mkdir(exist_ok=True)
            fcntl.flock(stack.enter_context(open(lock, "wb")), fcntl.LOCK_EX)
        yield


def _open(place: Path | str) -> Any:
    return remote.Stream(place) if isinstance(place, str) else open(place, "rb", buffering=0)


def _learn(stream: IO[bytes], place: Path | str) -> Index:
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    end = 0
    for name, start, size in _members(stream, place):
        folder, slash, file = name.rpartition("/")
        stem, _, suffix = file.partition(".")
        samples.setdefault(folder + slash + stem, {})[suffix.lower()] = start, size
        end = start + size
    found = []
    for key, parts in samples.items():
        image = next((parts[suffix] for suffix in IMAGES if suffix in parts), None)
        text = next((suffix for suffix in TEXTS if suffix in parts), None)
        if image:
            found.append((key.encode(), (*image, *(parts[text] if text else (0, 0))), text == "json"))
    if not found:
        raise ValueError(f"{place}: holds no sample with a picture ({', '.join(IMAGES)})")
    keys, spans, is_json = zip(*found, strict=True)
    return Index(np.array(keys), np.array(spans, dtype=np.int64), np.array(is_json), end)


def _members(stream: IO[bytes], place: Path | str) -> Iterator[tuple[str, int, int]]:
    """Name, start and size of each file in a tar, which is read forwards only; ValueError if it is damaged or cut off."""
    position, long_name = 0, None
    while True:
        header = stream.read(BLOCK)
        if header == bytes(BLOCK):
            return
        try:
            if len(header) < BLOCK:
                raise tarfile.HeaderError("it ends before its end mark")
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise ValueError(f"{place}: is not a complete, uncompressed tar file ({error}); fetch it again") from None
        start, padded = position + BLOCK, -(-info.size // BLOCK) * BLOCK
        if info.type == tarfile.GNUTYPE_LONGNAME:
            long_name = stream.read(padded)[: info.size].rstrip(b"\0").decode("utf-8", "replace")
        elif info.type == tarfile.XHDTYPE:
            long_name = _pax_name(stream.read(padded)[: info.size]) or long_name
        else:
            if info.isreg():
                yield long_name or info.name, start, info.size
            long_name = None
            stream.seek(start + padded)
        position = start + padded


def _pax_name(content: bytes) -> str | None:
    """The path of an extended header, lines of "length key=value"."""
    while content:
        length = int(content.partition(b" ")[0])
        key, _, value = content[:length].partition(b" ")[2].rstrip(b"\n").partition(b"=")
        if key == b"path":
            return value.decode("utf-8", "replace")
        content = content[length:]
    return None


def _caption(text: str, key: str, where: str) -> Any:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: its .json is not valid JSON ({error})") from None
    if not isinstance(content, dict) or key not in content:
        raise ValueError(f"{where}: its .json has no {key!r}; set the data set's caption_column")
    return content[key]
