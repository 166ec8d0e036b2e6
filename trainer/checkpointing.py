"""Training states on disk: enough to go on as if nothing had happened."""

from __future__ import annotations

import errno
import logging
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter

from trainer.digesting import Description, DigestingFileSystem
from trainer.distributed import ALONE, World, barrier, gather, gather_everywhere
from xdecoder import checkpoint
from xdecoder.config import ConfigError
from xdecoder.files import atomic, forget, make_folder, read_json, sweep, sync_folder, write_json
from xdecoder.integrity import check_zip, sha256

FORMAT = "xdecoder-training/1"
KEYS = frozenset({"step", "consumed", "seconds", "best", "schedule", "scaler", "processes"})
"""What every state holds."""
WHOLE = frozenset({"model", "optimizer"})
"""What a file holds beside it, and a folder has in its shards."""
PLAIN = "plain.pt"  # what a folder of shards holds beside tensors
MANIFEST = "manifest.json"  # sizes and digests of a folder's shards
DAMAGED = "damaged"  # where states go that cannot be read
DIFFERS = "it reads differently than it was written; is the disk failing?"
Rest = Callable[[], None]
"""What is left of saving a state once it is written: to wait for the disk, read it back, give it its name and drop older ones.
It may happen beside the training (`trainer.saving`)."""
logger = logging.getLogger(__name__)


def save(state: dict[str, Any], folder: Path, step: int, keep_last: int) -> Rest:
    """Write `state` beside the step's file. The rest lets it take its name, then drops all but the `keep_last` newest.

    Args:
        state: tensors and plain values only, so that reading it back runs no code. They may change before the rest.

    Raises:
        OSError: naming the file, if it cannot be written; older states stay. The rest may raise it, too.
    """
    take_name = _write(state, folder / f"step_{step:08}.pt")

    def rest() -> None:
        take_name()
        _drop_all_but(keep_last, folder)

    return rest


def save_shards(
    tensors: dict[str, Tensor], plain: dict[str, Any], folder: Path, step: int, keep_last: int, world: World
) -> Rest:
    """`save`, of a folder that takes its name when it is complete: a file of tensors from each process.

    They are written by torch.distributed.checkpoint, in the format of safetensors, so that reading them runs no code. The
    main process's rest reads all of them back; the others have none.

    Args:
        tensors: sharded ones and whole ones, of any shape; all processes must give the same names. If the step's folder is
            there, its tensors are these and are not written again.
        plain: what is not sharded, from the main process: tensors and plain values.

    Raises:
        OSError: naming the folder, if it cannot be written; older states stay. The rest may raise it, too.
    """
    path = folder / f"step_{step:08}"
    if gather_everywhere(path.exists(), world)[0]:
        return _write(plain, path / PLAIN) if world.is_main else nothing
    draft = folder / f".{path.name}.part"
    if world.is_main:
        shutil.rmtree(draft, ignore_errors=True)
        make_folder(draft)
    barrier(world)
    writer = HuggingFaceStorageWriter(str(draft), save_distributed=True)
    writer.fs = files = DigestingFileSystem()
    writer.sync_files = False  # the main process waits for the disk, in the rest
    try:
        dcp.save(dict(tensors), storage_writer=writer)
    except dcp.CheckpointException as error:
        reason = next((str(each[0] if isinstance(each, tuple) else each) for each in error.failures.values()), "unknown")
        raise _not_written(path, reason) from error
    shares = gather(files.written, world)
    if not world.is_main:
        return nothing
    manifest = {name: written for share in shares for name, written in share.items()}
    take_name = _write(plain, draft / PLAIN)

    def rest() -> None:
        try:
            take_name()
            for shard in _shards(draft):
                with open(shard, "rb") as file:
                    os.fsync(file.fileno())
                forget(shard)
            if _described(_shards(draft)) != manifest:
                raise OSError(errno.EIO, DIFFERS)
            write_json(draft / MANIFEST, manifest)
            os.replace(draft, path)
        except OSError as error:
            raise _not_written(path, error.strerror or str(error)) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        sync_folder(folder)
        _drop_all_but(keep_last, folder)

    return rest


def nothing() -> None:
    """The rest where there is nothing left to do."""


def _write(state: dict[str, Any], path: Path) -> Rest:
    """Write a file; the rest of it reads it back and gives it its name."""
    with ExitStack() as stack:
        file = stack.enter_context(atomic(path, check=_check_as_read_back))
        torch.save({"format": FORMAT, **state}, file)
        return stack.pop_all().close


def _check_as_read_back(draft: Path) -> None:
    try:
        check_zip(draft)  # with the checksums that torch made of what it had in memory
    except ValueError:
        raise OSError(errno.EIO, DIFFERS) from None


def _not_written(path: Path, reason: str) -> OSError:
    return OSError(errno.EIO, f"{path} could not be written ({reason}); nothing was changed")


def _shards(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name not in (PLAIN, MANIFEST))


def _described(shards: list[Path]) -> dict[str, Description]:
    """Of each file its size and digest, as read back."""
    return {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in shards}


def load_shards(tensors: dict[str, Tensor], path: Path) -> None:
    """Fill `tensors`, of any shape, in place from a folder that `save_shards` wrote, by as many processes or another number.

    Raises:
        ValueError: if the folder holds other tensors or cannot be read.
    """
    with _as_sentence(path):
        dcp.load(tensors, storage_reader=HuggingFaceStorageReader(str(path)))


def names_in_shards(path: Path) -> frozenset[str]:
    """The names of the tensors in a folder that `save_shards` wrote; raises ValueError if it cannot be read."""
    with _as_sentence(path):
        return frozenset(HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata)


@contextmanager
def _as_sentence(path: Path) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, KeyError, AssertionError, OSError, dcp.CheckpointException) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise ValueError(f"{path}: not a state of this network ({reason})") from None


def _drop_all_but(keep_last: int, folder: Path) -> None:
    """Only the main process writes states, and one at a time."""
    for old in states(folder)[:-keep_last]:
        _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def states(folder: Path) -> list[Path]:
    """The training states in a folder, oldest first."""
    return sorted(
        (path for path in folder.glob("step_*") if re.fullmatch(r"step_\d+", path.stem) and path.suffix in ("", ".pt")),
        key=step_of,
    )


def step_of(path: Path) -> int:
    """The number of finished steps that a training state's name tells."""
    return int(path.stem.removeprefix("step_"))


def clear_drafts(folder: Path) -> None:
    """Remove what was being written when a process was killed."""
    sweep(folder)
    for draft in folder.glob(".step_*.part"):
        _remove(draft)


def latest(folder: Path, world: World = ALONE) -> tuple[Path, dict[str, Any]] | None:
    """The newest training state that is intact, and its content; None where there is no state at all. All processes must ask.

    Damaged ones that are newer are named and put into the folder `damaged`, where they are in nobody's way.

    Raises:
        ConfigError: if there are states, but none of them is intact. Nothing is moved then.
    """
    found, faults = gather_everywhere(states(folder), world)[0], list[str]()
    for path in reversed(found):
        state, fault = _read(path, world)
        theirs = [each for each in gather_everywhere(fault, world) if each]
        if theirs:
            faults += theirs[:1]
            continue
        if world.is_main:
            for damaged, reason in zip(reversed(found), faults):
                aside = _set_aside(damaged)
                logger.warning("%s; going back to the state of step %d, and keeping it as %s", reason, step_of(path), aside)
        barrier(world)
        assert state is not None
        return path, state
    if found:
        raise ConfigError(
            f"{folder}: none of the {len(found)} training states there can be used ({faults[0]}); bring one back from a copy, "
            "or begin anew with --fresh, which keeps the folder under another name"
        )
    return None


def _read(path: Path, world: World) -> tuple[dict[str, Any] | None, str]:
    """A state's content, or what is wrong with it. Of a folder's shards each process looks at its share."""
    try:
        if path.is_dir():
            _check_shards(path, world)
        state = checkpoint.read(path / PLAIN if path.is_dir() else path)
    except (ValueError, OSError) as error:
        return None, str(error)
    if state.get("format") != FORMAT:
        return None, f"{path}: not a training state (expected format {FORMAT!r})"
    if lacking := sorted((KEYS if path.is_dir() else KEYS | WHOLE) - state.keys()):
        return None, f"{path}: a training state without {', '.join(lacking)}"
    return state, ""


def _check_shards(path: Path, world: World) -> None:
    """Raises ValueError if the shards are not those that were written."""
    if not (path / MANIFEST).is_file():
        raise ValueError(f"{path}: incomplete, its {MANIFEST} is missing")
    manifest, shards = read_json(path / MANIFEST), _shards(path)
    if not isinstance(manifest, dict) or set(manifest) != {shard.name for shard in shards}:
        raise ValueError(f"{path}: its files are not those that {MANIFEST} lists")
    for name, found in _described(shards[world.rank :: world.size]).items():
        if found != manifest[name]:
            raise ValueError(f"{path / name}: damaged, not what {MANIFEST} says")


def _set_aside(path: Path) -> Path:
    """Move a damaged state out of the way; it keeps its name, with a number after it if need be."""
    make_folder(path.parent / DAMAGED)
    names = (path.name, *(f"{path.name}.{number}" for number in range(1, 10**6)))
    aside = next(free for name in names if not (free := path.parent / DAMAGED / name).exists())
    path.rename(aside)
    return aside


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
