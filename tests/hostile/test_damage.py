"""Forty kinds of damage to the states of a run, for each way of keeping them.

After each the run goes on to what an undisturbed one gives, or says in one sentence why it does not; no good state is lost.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ranks import CPU, run_ranks
from tests.standin import Model, Task, batches
from trainer import checkpointing
from trainer.distributed import ALONE, World, barrier
from trainer.trainer import Stream, Trainer, TrainerConfig
from xdecoder import checkpoint
from xdecoder.config import ConfigError
from xdecoder.types import Batch

STEPS, EVERY = 9, 2
Damage = Callable[[Path], None]


def edited(edit: Callable[[bytearray], Any]) -> Damage:
    """Change the bytes of a file, or of the largest file of a folder."""

    def damage(path: Path) -> None:
        file = max(path.iterdir(), key=lambda each: (each.suffix == ".safetensors", each.name)) if path.is_dir() else path
        content = bytearray(file.read_bytes())
        file.write_bytes(bytes(edit(content) or content))

    return damage


def flipped(share: float, bit: int = 0) -> Damage:
    def flip(content: bytearray) -> None:
        content[min(int(len(content) * share), len(content) - 1)] ^= 1 << bit

    return edited(flip)


def zeroed(share: float, length: int) -> Damage:
    def zero(content: bytearray) -> None:
        start = int(len(content) * share)
        content[start : start + length] = bytes(len(content[start : start + length]))

    return edited(zero)


def rewritten(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """Change what a state holds and write it with checksums that fit: what another version might have written."""

    def damage(path: Path) -> None:
        file = path / checkpointing.PLAIN if path.is_dir() else path
        content = checkpoint.read(file)
        change(content)
        torch.save(content, file)

    return damage


def replaced(content: bytes) -> Damage:
    def damage(path: Path) -> None:
        remove(path)
        path.write_bytes(content)

    return damage


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def link_to_itself(path: Path) -> None:
    remove(path)
    path.symlink_to(path.name)


def pipe(path: Path) -> None:
    remove(path)
    os.mkfifo(path)


def other_kind(path: Path) -> None:
    """A folder where a file was, and the reverse."""
    folder = path.is_dir()
    remove(path)
    path.write_bytes(b"") if folder else path.mkdir()


DAMAGES: dict[str, Damage] = {
    **{f"cut to {share:.0%}": edited(lambda c, share=share: c[: int(len(c) * share)]) for share in (0, 0.001, 0.5, 0.9, 0.999)},  # type: ignore[misc]
    "one byte less": edited(lambda c: c[:-1]),
    "the first byte gone": edited(lambda c: c[1:]),
    **{f"bit {bit} flipped at {share:.0%}": flipped(share, bit) for share in (0.2, 0.4, 0.6, 0.8) for bit in (0, 6, 7)},
    **{f"{length} zeros at {share:.0%}": zeroed(share, length) for share in (0.0, 0.3, 0.7) for length in (512, 4096)},
    "text before it": edited(lambda c: b"#!/bin/sh\n" + c),
    "a byte inserted in the middle": edited(lambda c: c[: len(c) // 2] + b"x" + c[len(c) // 2 :]),
    "two halves exchanged": edited(lambda c: c[len(c) // 2 :] + c[: len(c) // 2]),
    "twice as long": edited(lambda c: c + c),
    "reversed": edited(lambda c: c[::-1]),
    "random": edited(lambda c: random.Random(0).randbytes(len(c))),
    "a page of HTML": replaced(b"<!DOCTYPE html><html></html>"),
    "nothing": replaced(b""),
    "a pickle": replaced(b"cos\nsystem\n(S'true'\ntR."),
    "deleted": remove,
    "a link to itself": link_to_itself,
    "a pipe": pipe,
    "of the other kind": other_kind,
    "without its schedule": rewritten(lambda state: state.pop("schedule")),
    "without a format": rewritten(lambda state: state.pop("format")),
    "of another format": rewritten(lambda state: state.update(format="xdecoder-training/9")),
}


class PowerCutError(Exception):
    pass


def train(folder: Path, world: World, engine: str, until: int = STEPS) -> list[float]:
    """Train on to the end, or until the power is cut after a step; the weights' sums."""

    def dealt(start: int) -> Iterator[Batch]:
        for batch in batches(start):
            yield replace(batch, samples=batch.samples[world.rank :: world.size])

    torch.manual_seed(0)
    settings = {"steps": STEPS, "learning_rate": 0.01, "log_every": 1, "save_every": EVERY, "keep_last": 3}
    config = TrainerConfig(device="cpu", engine=engine, **settings)  # type: ignore[arg-type]
    model = Model()
    trainer = Trainer(config, model, [Stream([Task("a")], dealt)], CPU, folder, world)

    def step_done() -> None:
        if trainer.step == until < STEPS:
            raise PowerCutError

    with suppress(PowerCutError):
        trainer.train(step_done)
    weights: dict[str, torch.Tensor] = trainer.weights()
    return [weight.double().sum().item() for weight in weights.values()]


def outcomes(folder: Path, engine: str, world: World) -> dict[str, str]:
    """For each damage to the newest state, and to all of them, what was wrong with how the run dealt with it."""
    whole = train(folder / "whole", world, engine)
    train(folder / "begun", world, engine, until=STEPS - 2)
    wrong = {}
    for name, damage in DAMAGES.items():
        for what in ("newest", "all"):
            run = folder / f"{name} {what}"
            if world.is_main:
                shutil.copytree(folder / "begun", run)
                for path in checkpointing.states(run / "checkpoints")[-1 if what == "newest" else 0 :]:
                    damage(path)
            barrier(world)
            before = len(list((run / "checkpoints").iterdir()))
            try:
                same = train(run, world, engine) == whole
                # All deleted is a run that never began; where all else is damaged nothing may begin.
                fault = "" if same and (what == "newest" or name == "deleted" or name in HARMLESS) else f"same: {same}"
                kept = len(list((run / "checkpoints" / checkpointing.DAMAGED).glob("*")))
                if what == "newest" and world.is_main and name not in HARMLESS and kept != (name != "deleted"):
                    fault += " the damaged state was not kept"
            except (ConfigError, ValueError) as error:
                fault = "" if what == "all" and "\n" not in str(error) else repr(error)
                fault += "" if len(list((run / "checkpoints").iterdir())) == before else " something was removed"
            except Exception as error:
                fault = f"traceback {error!r}"
            barrier(world)
            if fault:
                wrong[run.name] = fault
    return wrong


HARMLESS = ("twice as long",)
"""The archive's list of contents stands at its end and is right."""


@pytest.fixture(autouse=True)
def _no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.logging.Progress._say", lambda self, text: None)


def test_there_are_forty_kinds() -> None:
    assert len(DAMAGES) >= 40


def test_one_process(tmp_path: Path) -> None:
    assert outcomes(tmp_path, "ddp", ALONE) == {}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_two_processes(tmp_path: Path, engine: str) -> None:
    for wrong in run_ranks(lambda world: outcomes(tmp_path, engine, world), 2):
        assert wrong == {}
