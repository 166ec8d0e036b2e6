"""What an evaluation has found out so far, kept in files so that it can go on after an interruption."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer.distributed import World
from xdecoder.files import atomic

States = dict[str, dict[int | str, Any]]  # by the name of who keeps it: picture id -> its record
SECONDS = 30.0  # between two parts


class PartialResults:
    """The parts of one set's records, each written once by one of the processes.

    Args:
        folder: where the parts lie; nothing is kept if None.
    """

    def __init__(self, folder: Path | None, world: World) -> None:
        self.folder, self.world = folder, world
        self._last, self._written = time.monotonic(), 0

    def found(self) -> States:
        """All that was kept; a part that a crash left unreadable is forgotten, and its pictures are measured again."""
        states: States = {}
        for path in sorted(self.folder.glob("*.pt")) if self.folder else ():
            self._written += 1
            try:
                part = _with_arrays(torch.load(path, weights_only=True))
            except Exception:
                continue  # whatever is wrong with it, it can be made again
            for name, records in part.items():
                states.setdefault(name, {}).update(records)
        return states

    def save(self, states: Callable[[], Mapping[str, Mapping[int | str, Any]]], fresh: set[int | str], force: bool) -> None:
        """Write the records of the `fresh` pictures and forget these, if it is time to."""
        due = force or time.monotonic() - self._last >= SECONDS
        if self.folder is None or not fresh or not due:
            return
        part = {name: {i: records[i] for i in fresh if i in records} for name, records in states().items()}
        with atomic(self.folder / f"{self._written:06}_{self.world.rank:04}.pt") as file:
            torch.save(_with_tensors(part), file)
        self._written += 1
        self._last = time.monotonic()
        fresh.clear()


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Sixteen letters that differ for other settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def clear(folder: Path) -> None:
    """Remove all parts, once the scores are written."""
    shutil.rmtree(folder, ignore_errors=True)


def _with_tensors(tree: Any) -> Any:
    """Arrays as tensors, which torch.load reads without trusting the file."""
    if isinstance(tree, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(tree))
    if isinstance(tree, (tuple, list)):
        return tuple(_with_tensors(item) for item in tree)
    return {key: _with_tensors(value) for key, value in tree.items()} if isinstance(tree, dict) else tree


def _with_arrays(tree: Any) -> Any:
    if isinstance(tree, torch.Tensor):
        return tree.numpy()
    if isinstance(tree, tuple):
        return tuple(_with_arrays(item) for item in tree)
    return {key: _with_arrays(value) for key, value in tree.items()} if isinstance(tree, dict) else tree
