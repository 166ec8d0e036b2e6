"""Files of torch.distributed.checkpoint whose digests are known as soon as they are written."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

from torch.distributed.checkpoint.filesystem import FileSystem


class Description(TypedDict):
    """What tells whether a file is still what was written."""

    bytes: int
    sha256: str


class DigestingFileSystem(FileSystem):
    """Computes the digest of what is in memory, not of what the disk made of it, while the disk is busy."""

    def __init__(self) -> None:
        self.written: dict[str, Description] = {}  # by the file's name

    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Generator[io.IOBase, None, None]:
        with open(path, mode, buffering=0) as raw, ThreadPoolExecutor(1) as beside:
            stream = _Digesting(raw, beside)
            yield stream
        self.written[Path(path).name] = stream.description()


class _Digesting(io.BufferedWriter):
    """What is written must stay as it is until the description."""

    def __init__(self, raw: Any, beside: ThreadPoolExecutor) -> None:
        super().__init__(raw)
        self._beside, self._digest = beside, hashlib.sha256()
        self._bytes, self._pending = 0, list[Future[None]]()

    def write(self, data: Any) -> int:
        self._pending.append(self._beside.submit(self._digest.update, data))
        self._bytes += len(data)
        return super().write(data)

    def description(self) -> Description:
        for each in self._pending:
            each.result()
        return {"bytes": self._bytes, "sha256": self._digest.hexdigest()}
