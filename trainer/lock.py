"""One run at a time in a run folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from trainer.distributed import World, gather_everywhere
from xdecoder.config import ConfigError
from xdecoder.files import make_folder

FILE = ".lock"


@contextmanager
def locked(folder: Path, world: World) -> Iterator[None]:
    """The block in which the processes of `world` own a run folder; the lock ends with the main one, however that ends.

    Raises:
        ConfigError: on all processes, if another run is writing there; it says which.
    """
    file, fault = _take(folder) if world.is_main else (None, "")
    if fault := gather_everywhere(fault, world)[0]:
        raise ConfigError(fault)
    try:
        yield
    finally:
        if file is not None:
            file.close()


def _take(folder: Path) -> tuple[IO[str] | None, str]:
    """The open lock file, or why there is none."""
    make_folder(folder)
    file = open(folder / FILE, "a+", encoding="utf-8")  # noqa: SIM115 (open for as long as the run lasts)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of the process: loaders' forks do not keep it
    except (BlockingIOError, PermissionError):
        file.seek(0)
        holder = _holder(file.read())
        file.close()
        return None, f"{folder}: {holder} is writing there; wait for it or stop it, or choose another output"
    except OSError:
        return file, ""  # a file system without locks
    file.truncate(0)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    file.write(json.dumps({"host": socket.gethostname(), "process": os.getpid(), "started": started}) + "\n")
    file.flush()
    return file, ""


def _holder(text: str) -> str:
    try:
        told = json.loads(text)
        return f"another run (process {told['process']} on {told['host']}, begun {told['started']})"
    except (ValueError, KeyError, TypeError):
        return "another run"
