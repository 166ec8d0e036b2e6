"""Captioned pictures packed into large files: a sequence of records that are read when they are asked for."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Protocol, overload

from pydantic import Field

from datasets.records import Encoded, Record
from datasets.spec import DatasetSpec, Part

MOST_FILES = 100_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]{1,18})\.\.([0-9]{1,18})")


class PackedSpec(DatasetSpec):
    """Captioned pictures packed into a few large files."""

    images: str = ""
    """Folder of the pictures, where the files hold paths."""

    files: tuple[str, ...] = Field(min_length=1)
    """The files, in order: paths, patterns such as `cc3m/{00000..00331}.tar` or `sbu_*.arrow`, and for `tar` also http and
    https addresses."""

    caption_column: str = "caption"
    """Column of the captions, one or a list; in `tar` files the key in a .json where there is no .txt."""

    @property
    def packed(self) -> bool:
        return True

    def provides(self) -> frozenset[Part]:
        return frozenset({"captions", "texts"})


class Table(Protocol):
    """A stretch of captioned pictures that one file holds."""

    def __len__(self) -> int: ...

    def read(self, row: int) -> Record:
        """Raises ValueError naming the file and the row."""
        ...


class Pairs(Sequence[Record]):
    """The records of several tables, one after the other.

    Args:
        tables: what the files hold.
        by_table: a table is read as a whole, so neighbours should be asked for together.
        remote: reading means waiting for a server, so several should be asked for at once.
    """

    def __init__(self, tables: Sequence[Table], by_table: bool = False, remote: bool = False) -> None:
        self._tables = [table for table in tables if len(table)]
        self._ends = list(accumulate(len(table) for table in self._tables))
        self.blocks = [0, *self._ends[:-1]] if by_table else None
        self.remote = remote

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect_right(self._ends, index)
        return self._tables[number].read(index - (self._ends[number - 1] if number else 0))


def files(spec: PackedSpec, root: Path) -> list[Path | str]:
    """The files of a packed set, patterns expanded; addresses stay texts. Raises ValueError for one that is not there."""
    found: list[Path | str] = []
    names = [name for written in spec.files for name in islice(expand(written), MOST_FILES + 1)]
    if len(names) > MOST_FILES:
        raise ValueError(f"data set {spec.name!r}: its patterns mean more than {MOST_FILES} files")
    for pattern in names:
        if is_address(pattern):
            if spec.reader != "tar":
                raise ValueError(f"data set {spec.name!r}: {pattern} is an address, which only reader 'tar' can read")
            found.append(pattern)
            continue
        matching = sorted(root.glob(pattern)) if "*" in pattern else [root / pattern]
        if not matching or not all(path.is_file() for path in matching):
            raise ValueError(f"{root / pattern}: no such file; data set {spec.name!r} has its pictures there")
        found += matching
    return found


def expand(pattern: str) -> Iterator[str]:
    """What a shell makes of braces: "a{08..10}" gives a08, a09, a10; "{x,y}" gives x, y."""
    braces = _BRACES.search(pattern)
    if not braces:
        yield pattern
        return
    numbers = _RANGE.fullmatch(braces[1])
    if numbers:
        first, last = numbers.groups()
        choices: Iterable[str] = (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))
    else:
        choices = braces[1].split(",")
    for choice in choices:
        yield from expand(pattern[: braces.start()] + choice + pattern[braces.end() :])


def is_address(name: str) -> bool:
    return name.startswith(("http://", "https://"))


def record(image: Any, captions: Any, key: Any, folder: Path, where: str) -> Record:
    """A record of what a file says.

    Args:
        image: bytes of a picture file, its path below `folder`, or a mapping of either as the Hugging Face library writes it.
        captions: a text or a list of texts.
        key: names the picture; ViLT's files have COCO's file names here, of which the number remains. None: `where` names it.
        where: file and row.

    Raises:
        ValueError: if there is no picture or no caption.
    """
    if isinstance(image, dict):
        image = image.get("bytes") or image.get("path")
    texts = captions if isinstance(captions, (list, tuple)) else [captions]
    said = tuple(text.strip() for text in texts if isinstance(text, str) and text.strip())
    if not said:
        raise ValueError(f"{where} has no caption")
    if not image or not isinstance(image, (bytes, str)):
        raise ValueError(f"{where} has no picture")
    picture = Encoded(image, where) if isinstance(image, bytes) else folder / image
    return Record(where if key is None else _number(key), picture, captions=said)


def _number(key: Any) -> int | str:
    """COCO's number out of "COCO_val2014_000000391895.jpg"; what is no such name stays as it is."""
    if isinstance(key, int):
        return key
    digits = str(key).rpartition("_")[2].partition(".")[0]
    return int(digits) if digits.isdecimal() and len(digits) < 19 else str(key)
