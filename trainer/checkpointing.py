"""Training states on disk: enough to go on as if nothing had happened."""

from __future__ import annotations

import logging
import os
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter

from trainer.distributed import World, barrier
from xdecoder import checkpoint
from xdecoder.files import atomic

FORMAT = "xdecoder-training/1"
PLAIN = "plain.pt"  # what a folder of shards holds beside tensors
logger = logging.getLogger(__name__)


def save(state: dict[str, Any], folder: Path, step: int, keep_last: int) -> Path:
    """Write `state` as the step's file, atomically, then drop all but the `keep_last` newest.

    Args:
        state: tensors and plain values only, so that reading it back runs no code.

    Raises:
        OSError: naming the file, if it cannot be written; older states stay.
    """
    path = folder / f"step_{step:08}.pt"
    with atomic(path) as file:
        torch.save({"format": FORMAT, **state}, file)
    _drop_all_but(keep_last, folder)
    return path


def save_shards(
    tensors: dict[str, Tensor], plain: dict[str, Any], folder: Path, step: int, keep_last: int, world: World
) -> Path:
    """Write the step's state as a folder that takes its name when it is complete: a file of tensors from each process.

    They are written by torch.distributed.checkpoint, in the format of safetensors, so that reading them runs no code.

    Args:
        tensors: sharded ones and whole ones, of any shape; all processes must give the same names.
        plain: what is not sharded, from the main process: tensors and plain values.
    """
    path = folder / f"step_{step:08}"
    draft = folder / f".{path.name}.part"
    if world.is_main:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
    barrier(world)
    dcp.save(dict(tensors), storage_writer=HuggingFaceStorageWriter(str(draft), save_distributed=True))
    if world.is_main:
        with atomic(draft / PLAIN) as file:
            torch.save({"format": FORMAT, **plain}, file)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(draft, path)
        _drop_all_but(keep_last, folder)
    barrier(world)
    return path


def load_shards(tensors: dict[str, Tensor], path: Path) -> None:
    """Fill `tensors`, of any shape, in place from a folder that `save_shards` wrote, by as many processes or another number.

    Raises:
        ValueError: if the folder holds other tensors or cannot be read.
    """
    try:
        dcp.load(tensors, storage_reader=HuggingFaceStorageReader(str(path)))
    except (RuntimeError, ValueError, KeyError, AssertionError, OSError, dcp.CheckpointException) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise ValueError(f"{path}: not a state of this network ({reason})") from None


def _drop_all_but(keep_last: int, folder: Path) -> None:
    """Only the main process writes states, and one at a time."""
    killed_while_writing = list(folder.glob(".*.part"))
    for old in [*states(folder)[:-keep_last], *killed_while_writing]:
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)


def states(folder: Path) -> list[Path]:
    """The training states in a folder, oldest first."""
    return sorted(
        (path for path in folder.glob("step_*") if re.fullmatch(r"step_\d+", path.stem) and path.suffix in ("", ".pt")),
        key=step_of,
    )


def step_of(path: Path) -> int:
    """The number of finished steps that a training state's name tells."""
    return int(path.stem.removeprefix("step_"))


def latest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest training state that can be read, and its content; None if there is none. Says which ones it skips."""
    for path in reversed(states(folder)):
        try:
            state = checkpoint.read(path / PLAIN if path.is_dir() else path)
        except ValueError as error:
            logger.warning("%s; going back to an earlier state", error)
            continue
        if state.get("format") == FORMAT:
            return path, state
        logger.warning("%s: not a training state (expected format %r); going back to an earlier state", path, FORMAT)
    return None


def random_state(device: torch.device) -> dict[str, Any]:
    """The state of every random generator that training draws from, as tensors and plain values."""
    version, words, cached = random.getstate()
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": [version, list(words), cached],
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "device": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Set the random generators back to what `random_state` found."""
    version, words, cached = state["python"]
    random.setstate((version, tuple(words), cached))
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["device"] is not None:
        torch.cuda.set_rng_state(state["device"], device)


def seed_everything(seed: int) -> None:
    """Start all random generators from `seed`."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
