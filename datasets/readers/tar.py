"""WebDataset shards: tar files in which neighbours of one name make a sample, such as 000017.jpg and 000017.txt.

A shard is read through once to learn where its samples lie, and that index is kept under the data root. From then on any sample
is one short read, out of a file or from a server, so that samples come in any order and nobody reads what others need.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal
from zipfile import BadZipFile

import numpy as np

from datasets.readers import remote
from datasets.readers.pairs import PackedSpec, Pairs, files, record
from datasets.records import Contents, Record
from xdecoder.files import atomic, shown

IMAGES = ("jpg", "jpeg", "png", "webp")
TEXTS = ("txt", "json")
BLOCK = 512
READERS = 8  # shards that are indexed at a time
LONGEST_NAME = 4096  # bytes, as of paths in Linux
LONGEST_HEADER = 1 << 20  # bytes of what stands before a member: its long name, its attributes
NEIGHBOURS = 1 << 22  # bytes of other members between a picture and its text that are read and thrown away
LARGEST = {"picture": 1 << 28, "text": 1 << 24}  # bytes that are read into memory at once


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
        for kind, much in (("picture", size), ("text", length)):
            if much > LARGEST[kind]:
                raise ValueError(f"{where}: its {kind} has {much} bytes; at most {LARGEST[kind]} are read")
        first, last = min(image, text or image), max(image + size, text + length)
        if last - first <= size + length + NEIGHBOURS:  # one read gets both
            data = self._bytes(first, last - first)
            picture, said = data[image - first : image - first + size], data[text - first : text - first + length]
        else:
            picture, said = self._bytes(image, size), self._bytes(text, length)
        captions: Any = said.decode("utf-8", "replace") if length else None
        if captions is not None and self.index.is_json[row]:
            captions = _caption(captions, self.caption_key, where)
        return record(picture, captions, name, Path(), where)

    def _bytes(self, start: int, size: int) -> bytes:
        if isinstance(self.place, str):
            return remote.read(self.place, start, size, self.index.size)
        with open(self.place, "rb") as file:
            file.seek(start)
            data = file.read(size)
        if len(data) < size:
            raise ValueError(f"{self.place}: has become shorter since training began; fetch it again")
        return data


class TarSpec(PackedSpec):
    """WebDataset shards."""

    reader: Literal["tar"] = "tar"

    def read(self, root: Path) -> Contents:
        """All samples of the shards that have a picture, in order."""
        places = files(self, root)
        with ThreadPoolExecutor(READERS) as pool:
            indices = list(pool.map(partial(_index, root / ".index"), places))
        shards = [Shard(place, index, self.caption_column) for place, index in zip(places, indices, strict=True)]
        return Contents(None, Pairs(shards, remote=any(isinstance(place, str) for place in places)))


def _index(folder: Path, place: Path | str) -> Index:
    """The shard's index as it was kept, or learnt now and kept if the folder can be written."""
    stamp = "" if isinstance(place, str) else f"{place.stat().st_size} {place.stat().st_mtime_ns}"
    path = folder / f"{Path(place).name}.{zlib.crc32(str(place).encode()):08x}.npz"
    with _alone(path.with_suffix(".lock")):
        kept = _kept(path, stamp)
        if kept:
            return kept
        with _open(place) as stream:
            index = _learn(stream, place, stream.size if isinstance(place, str) else place.stat().st_size)
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


def _learn(stream: IO[bytes], place: Path | str, size: int | None) -> Index:
    """Where the samples lie in a shard of that many bytes; None = unknown, as of some servers' files."""
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    end = 0
    try:
        for name, start, length in _members(stream, size):
            folder, slash, file = name.rpartition("/")
            stem, _, suffix = file.partition(".")
            samples.setdefault(folder + slash + stem, {})[suffix.lower()] = start, length
            end = start + length
    except tarfile.HeaderError as error:
        raise ValueError(f"{place}: is not a complete, uncompressed tar file ({error}); fetch it again") from None
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


def _members(stream: IO[bytes], size: int | None) -> Iterator[tuple[str, int, int]]:
    """Name, start and size of each file in a tar, which is read forwards only; tarfile.HeaderError if it is damaged."""
    position, attributes = 0, dict[str, str]()
    while (header := stream.read(BLOCK)) != bytes(BLOCK):
        if len(header) < BLOCK:
            raise tarfile.HeaderError("it ends before its end mark")
        info = tarfile.TarInfo.frombuf(header, "utf-8", "replace")
        is_header = info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE)
        start, length = position + BLOCK, info.size if is_header else _size(attributes, info.size)
        if not 0 <= length <= (LONGEST_HEADER if is_header else length) or (size is not None and start + length > size):
            raise tarfile.HeaderError(f"a member at byte {position} claims {length} bytes")
        padded = -(-length // BLOCK) * BLOCK
        if info.type == tarfile.GNUTYPE_LONGNAME:
            attributes["path"] = stream.read(padded)[:length].rstrip(b"\0").decode("utf-8", "replace")
        elif info.type == tarfile.XHDTYPE:
            attributes |= _pax(stream.read(padded)[:length])
        else:
            if info.isreg():
                yield _name(attributes, info), start, length
            attributes = {}
            stream.seek(start + padded)
        position = start + padded


def _pax(content: bytes) -> dict[str, str]:
    """What an extended header says, lines of "length key=value"."""
    found = {}
    while content:
        written = content.partition(b" ")[0]
        length = int(written) if written.isdigit() and len(written) < 10 else 0
        key, sign, value = content[len(written) + 1 : length].removesuffix(b"\n").partition(b"=")
        if not sign or length > len(content):
            raise tarfile.HeaderError("an extended header has a line of a wrong length")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
        content = content[length:]
    return found


def _size(attributes: Mapping[str, str], size: int) -> int:
    """An extended header gives it where the plain one has no room."""
    written = attributes.get("size", str(size))
    return int(written) if written.isascii() and written.isdigit() and len(written) < 19 else -1


def _name(attributes: Mapping[str, str], info: tarfile.TarInfo) -> str:
    name = attributes.get("path", info.name)
    if len(name.encode()) > LONGEST_NAME:
        raise tarfile.HeaderError(f"a name has more than {LONGEST_NAME} bytes")
    if info.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse") for key in attributes):
        raise tarfile.HeaderError(f"{shown(name)} is packed with holes, which only tar can fill; pack it without --sparse")
    return name


def _caption(text: str, key: str, where: str) -> Any:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: its .json is not valid JSON ({error})") from None
    if not isinstance(content, dict) or key not in content:
        raise ValueError(f"{where}: its .json has no {key!r}; set the data set's caption_column")
    return content[key]
