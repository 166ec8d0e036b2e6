"""What is held against a checkpoint from outside before memory or time is spent on it: its claims, and what it is made of."""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xdecoder.config import Config
from xdecoder.files import shown

MAX_NUMBER = 1_000_000  # in an architecture
MAX_SIZE = 8_192  # pixels a side
MAX_LAYERS = 1_000
MAX_PLAIN = 10_000  # values in an architecture that is written out

_ANY_AMOUNT = (b"cbuiltins\nbytearray\n", b"c__builtin__\nbytearray\n")
"""What torch lets a pickle call with any number; nothing that it writes does."""
_LONGEST_HEAD = 30 + 2 * (1 << 16)  # bytes of a zip member before its content
_REPEATED = ("depth", "depths", "layers", "levels")
"""Keys that say how often something is built."""
_KINDS = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)


def check_archive(path: Path) -> None:
    """Compare what a torch file claims with what it is; older ones, which are no zip archives, claim nothing beforehand.

    Raises:
        ValueError: naming the file, if it is compressed (torch writes nothing compressed), or claims more than it holds.
    """
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: truncated or not a checkpoint (it is empty)")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        pickles = _members_of(path) if content[:4] == b"PK\x03\x04" else [(0, len(content))]
        if any(content.find(each, start, end) >= 0 for start, end in pickles for each in _ANY_AMOUNT):
            raise ValueError(f"{path}: refused, it asks for memory and does not say what for")


def _members_of(path: Path) -> list[tuple[int, int]]:
    """Where the pickles of an archive lie, which is checked: first byte and one beyond the last."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, NotImplementedError):
        raise ValueError(f"{path}: truncated or not a checkpoint") from None
    if any(each.compress_type != zipfile.ZIP_STORED for each in members):
        raise ValueError(f"{path}: refused, its members are compressed; torch.save writes none that are")
    if sum(each.file_size for each in members) > path.stat().st_size:
        raise ValueError(f"{path}: refused, its members claim more bytes than the file has")
    found = [each for each in members if each.filename.endswith(".pkl")]
    return [(each.header_offset, each.header_offset + each.file_size + _LONGEST_HEAD) for each in found]


def check_weights(weights: Mapping[Any, Any], path: str | Path) -> None:
    """Refuse what is no mapping from names to numbers that lie in the file.

    Raises:
        ValueError: naming the file and the entry.
    """
    if not isinstance(weights, Mapping):
        raise ValueError(f"{path}: its weights are {type(weights).__name__}; expected a mapping from names to tensors")
    for name, value in weights.items():
        if not isinstance(name, str):
            raise ValueError(f"{path}: a weight is called {shown(name)}; names are texts")
        if not isinstance(value, Tensor):
            raise ValueError(f"{path}: weight {shown(name)} is {type(value).__name__} and not a tensor")
        if value.device.type == "meta":
            raise ValueError(f"{path}: weight {shown(name)} has a shape but no numbers (it was saved from the meta device)")
        if value.layout != torch.strided or value.is_quantized or value.dtype not in _KINDS:
            kind = "quantised" if value.is_quantized else f"{value.dtype}, {value.layout}".replace("torch.", "")
            raise ValueError(f"{path}: weight {shown(name)} is {kind}; expected dense numbers of 8 to 64 bits")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"{path}: weight {shown(name)} claims {tuple(value.shape)} numbers, more than the file holds")


def check_plain(value: Any, where: str) -> None:
    """Refuse an architecture that is not a small tree of plain values; raises ValueError naming `where`."""
    waiting, count = [value], 0
    while waiting:
        each = waiting.pop()
        count += 1
        if count > MAX_PLAIN:
            raise ValueError(f"{where}: its architecture has more than {MAX_PLAIN} values")
        if isinstance(each, dict):
            waiting += each.keys()
            waiting += each.values()
        elif isinstance(each, (list, tuple)):
            waiting += each
        elif not isinstance(each, (str, int, float, type(None))):
            raise ValueError(
                f"{where}: its architecture holds {type(each).__name__}; expected numbers, texts, lists and mappings"
            )


def check_sizes(config: Config, where: str, layers: int = MAX_LAYERS) -> None:
    """Refuse an architecture that could not be built; `layers` is how often anything in it may be repeated.

    Raises:
        ValueError: naming `where`, the key and the number.
    """
    for key, number in _numbers(config.model_dump(), ()):
        limit = MAX_NUMBER
        if any(part in _REPEATED for part in key):
            limit = min(layers, MAX_LAYERS)
        elif "size" in key[-1]:
            limit = MAX_SIZE
        if abs(number) > limit:
            raise ValueError(f"{where}: {'.'.join(key)} is {shown(number)}; at most {limit} could be built")


def _numbers(value: Any, key: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _numbers(inner, (*key, str(name)))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _numbers(inner, key)
    elif isinstance(value, int) and key:
        yield key, value
