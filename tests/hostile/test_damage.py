"""Forty kinds of damage to the states of a run, for each way of keeping them.

After each the run goes on to what an undisturbed one gives, or says in one sentence why it does not; no good state is lost.
`FUZZ=2 pytest tests/hostile` does the same with a small X-Decoder, which takes minutes.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fuzz.mutations import TIMES
from tests.ranks import CPU, run_ranks
from tests.standin import Model, Task, batches
from tests.tiny import tiny_batch, tiny_model, tiny_tasks
from trainer import checkpointing
from trainer.distributed import ALONE, World, barrier
from trainer.trainer import Stream, Trainer, TrainerConfig
from xdecoder import checkpoint
from xdecoder.config import ConfigError
from xdecoder.integrity import digest_of
from xdecoder.network import Network
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


@dataclass(frozen=True)
class Outcome:
    """What a training came to on the main process."""

    begun: int  # the step from which it went on
    digest: str  # of all weights
    curve: list[tuple[float, ...]]  # loss and gradient norm of each step

    def same(self, other: Outcome) -> bool:
        return (self.digest, self.curve) == (other.digest, other.curve)


def network_of(kind: str) -> tuple[Network, list[Any], Callable[[int], Iterator[Batch]]]:
    """A network, what it learns, and its batches from the n-th on."""
    if kind == "stand-in":
        return Model(), [Task("a")], batches

    def endless(start: int) -> Iterator[Batch]:
        while True:
            yield tiny_batch()

    return tiny_model().train(), tiny_tasks().build(["segmentation", "captioning"]), endless


def train(folder: Path, world: World, engine: str, kind: str, until: int = STEPS) -> Outcome:
    """Train on to the end, or until the power is cut after a step."""
    torch.manual_seed(0)
    model, tasks, source = network_of(kind)

    def dealt(start: int) -> Iterator[Batch]:
        for batch in source(start):
            yield replace(batch, samples=batch.samples[world.rank :: world.size])

    settings = {"steps": STEPS, "learning_rate": 0.01, "log_every": 1, "save_every": EVERY, "keep_last": 3}
    config = TrainerConfig(device="cpu", engine=engine, **settings)  # type: ignore[arg-type]
    trainer = Trainer(config, model, [Stream(tasks, dealt)], CPU, folder, world)
    begun = trainer.step

    def step_done() -> None:
        if trainer.step == until < STEPS:
            raise PowerCutError

    with suppress(PowerCutError):
        trainer.train(step_done)
    weights = trainer.weights()
    if not world.is_main:
        return Outcome(begun, "", [])
    curve = [(line["loss"], line["gradient_norm"]) for line in map(json.loads, (folder / "log.jsonl").read_text().splitlines())]
    return Outcome(begun, digest_of(weights, {}), curve)


def outcomes(folder: Path, engine: str, world: World, kind: str = "stand-in") -> dict[str, str]:
    """For each damage to the newest state, and to all of them, what was wrong with how the run dealt with it."""
    whole = train(folder / "whole", world, engine, kind)
    train(folder / "begun", world, engine, kind, until=STEPS - 2)
    barrier(world)  # only the main process waits for the last state
    saved = [checkpointing.step_of(path) for path in checkpointing.states(folder / "begun" / "checkpoints")]
    assert len(saved) > 1
    wrong = {}
    for name, damage in DAMAGES.items():
        for what in ("newest", "all"):
            run = folder / f"{name} {what}"
            if world.is_main:
                shutil.copytree(folder / "begun", run)
                for path in checkpointing.states(run / "checkpoints")[-1 if what == "newest" else 0 :]:
                    damage(path)
            barrier(world)
            sharded = engine == "fsdp" and world.size > 1
            again, harmless = partial(train, run, world, engine, kind), name == HARMLESS and not sharded
            if fault := fault_of(again, run, what, whole, saved, kept=name != "deleted", harmless=harmless):
                wrong[run.name] = fault
            barrier(world)
            if world.is_main:
                shutil.rmtree(run)
    return wrong


def fault_of(
    again: Callable[[], Outcome], run: Path, what: str, whole: Outcome, saved: list[int], kept: bool, harmless: bool
) -> str:
    """Go on with a damaged run; what was wrong with that, in words, or nothing.

    Args:
        what: which states are damaged, the newest or all.
        saved: their steps.
        kept: whether there is still something of them.
        harmless: whether they can be used nevertheless.
    """
    before = sorted(path.name for path in (run / "checkpoints").iterdir())
    try:
        outcome = again()
    except (ConfigError, ValueError) as error:
        left = sorted(path.name for path in (run / "checkpoints").iterdir())
        if what == "newest":
            return f"a good state was not used: {error!r}"
        return (repr(error) if "\n" in str(error) else "") + ("" if left == before else " something was removed")
    except Exception as error:
        return f"a traceback: {error!r}"
    if what == "all" and kept and not harmless:  # all deleted is a run that never began
        return "it began although no state is good"
    expected = saved[-1] if harmless else saved[-2] if what == "newest" else 0
    if outcome.begun != expected:
        return f"it went on from step {outcome.begun}, not {expected}"
    aside = list((run / "checkpoints" / checkpointing.DAMAGED).glob("*"))
    lost = what == "newest" and len(aside) != (kept and not harmless)
    return ("" if outcome.same(whole) else "a silent wrong result") + (" the damaged state was not kept" if lost else "")


HARMLESS = "twice as long"
"""An archive's list of contents stands at its end and is right. Shards have a manifest that tells their length."""


@pytest.fixture(autouse=True)
def _no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.logging.Progress._say", lambda self, text: None)


def test_there_are_forty_kinds() -> None:
    assert len(DAMAGES) >= 40


NETWORKS = [
    "stand-in",
    pytest.param("X-Decoder", marks=pytest.mark.skipif(TIMES == 1, reason="takes minutes; FUZZ=2 runs it")),
]


@pytest.mark.parametrize("kind", NETWORKS)
def test_one_process(tmp_path: Path, kind: str) -> None:
    assert outcomes(tmp_path, "ddp", ALONE, kind) == {}


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_two_processes(tmp_path: Path, engine: str, kind: str) -> None:
    for wrong in run_ranks(lambda world: outcomes(tmp_path, engine, world, kind), 2):
        assert wrong == {}
