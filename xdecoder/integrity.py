"""Telling whether a file is still what was written."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

CHUNK = 1 << 22


def sha256(path: str | Path) -> str:
    """The digest of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check_zip(path: str | Path) -> None:
    """Read all of a zip archive, which torch's files are, and compare it with the checksums in it (torch itself does not).

    Raises:
        ValueError: naming the file, if it is not what was written, or no archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for record in archive.infolist():
                with archive.open(record) as content:
                    while content.read(CHUNK):
                        pass
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError, NotImplementedError):
        raise ValueError(f"{path}: damaged, its content does not match its checksums") from None


def digest_of(weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of metadata and of all tensors' names, types, shapes and bytes; the tensors lie on the processor."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
