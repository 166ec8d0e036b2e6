"""Telling whether a file is still what was written."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import Module

CHUNK = 1 << 20  # stays in a processor's cache between being read and being summed up
MANY = 1 << 24  # bytes for which threads are worth their start


def sha256(path: str | Path) -> str:
    """The digest of a file."""
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_zip(path: str | Path) -> None:
    """Read all of a zip archive, which torch's files are, and compare it with the checksums in it (torch itself does not).

    Raises:
        ValueError: naming the file, if it is not what was written, or no archive.
    """
    try:
        intact = _intact(Path(path))
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, NotImplementedError, struct.error):
        intact = False
    if not intact:
        raise ValueError(f"{path}: damaged, its content does not match its checksums")


def _intact(path: Path) -> bool:
    """Whether all members have their checksums. Threads share them: neither reading nor summing up holds Python's lock."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        starts = [_start(archive, member) for member in members]
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        return False  # torch compresses nothing
    sizes = [member.file_size for member in members]
    if sum(sizes) < MANY:
        sums = [_crc32(path, start, size) for start, size in zip(starts, sizes, strict=True)]
    else:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
            sums = list(threads.map(_crc32, [path] * len(members), starts, sizes))
    return sums == [member.CRC for member in members]


def _start(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Where a member's content begins, from the head before it, which is checked."""
    with archive.open(member):  # compares the head with the list at the archive's end
        pass
    assert archive.fp is not None
    archive.fp.seek(member.header_offset + 26)
    name, extra = struct.unpack("<HH", archive.fp.read(4))
    start: int = member.header_offset + 30 + name + extra
    return start


def _crc32(path: Path, start: int, size: int) -> int:
    """The checksum of a part of a file; -1 if the file ends before."""
    found, buffer = 0, memoryview(bytearray(min(size, CHUNK)))
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        while size:
            count = file.readinto(buffer[: min(size, CHUNK)])
            if not count:
                return -1
            found = zlib.crc32(buffer[:count], found)
            size -= count
    return found


def digest_of_network(network: Module) -> str:
    """A digest of the weights: what was computed by other ones means something else."""
    return digest_of({name: value.cpu() for name, value in network.state_dict().items()}, {})[:32]


def digest_of(weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of metadata and of all tensors' names, types, shapes and bytes; the tensors lie on the processor."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
