"""One of several processes dies or hangs, and the others say so, save and end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests.ranks import CPU, run_ranks
from tests.standin import Model, Task, batches
from trainer import checkpointing
from trainer.distributed import World, barrier
from trainer.heartbeat import RankLostError, saving_when_lost
from trainer.trainer import Stream, Trainer, TrainerConfig
from xdecoder.types import Batch

STEPS, LAST = 9, 4


def train(folder: Path, world: World, doomed: int = -1, end: int = signal.SIGKILL) -> tuple[str, float, list[float]]:
    """A run in which one process ends itself before its step after LAST; what is said, how long that took, and the weights."""

    def dealt(start: int) -> Iterator[Batch]:
        for number, batch in enumerate(batches(start), start):
            if number == LAST and world.rank == doomed:
                os.kill(os.getpid(), end)
            yield replace(batch, samples=batch.samples[world.rank :: world.size])

    torch.manual_seed(0)
    config = TrainerConfig(steps=STEPS, learning_rate=0.01, log_every=50, save_every=50, device="cpu")
    model = Model()
    model.drop.p = 0.0  # the network's own draws follow from the samples' seeds; the stand-in's do not
    trainer = Trainer(config, model, [Stream([Task("a")], dealt)], CPU, folder, world)
    start = time.monotonic()
    try:
        trainer.train()
    except RankLostError as error:
        return str(error), time.monotonic() - start, []
    return "", 0.0, [weight.sum().item() for weight in model.parameters()]


@pytest.mark.parametrize("doomed", [0, 1])
def test_a_killed_process_is_named_the_state_is_saved_and_the_run_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, doomed: int
) -> None:
    told = run_ranks(lambda world: train(tmp_path / "run", world, doomed), 2, doomed=[doomed])
    sentence, seconds, _ = told[1 - doomed]
    assert f"process {doomed} of 2 on " in sentence or f"process {doomed} of 2 is gone" in sentence
    assert f"step {LAST} is saved, and the same command goes on from there" in sentence
    assert seconds < 30
    assert [checkpointing.step_of(path) for path in checkpointing.states(tmp_path / "run" / "checkpoints")] == [LAST]
    whole = run_ranks(lambda world: train(tmp_path / "whole", world), 2)
    again = run_ranks(lambda world: train(tmp_path / "run", world), 2)
    assert again == whole


def test_a_hanging_process_is_found_by_its_silence_while_the_others_wait(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told = run_ranks(lambda world: train(tmp_path, world, doomed=1, end=signal.SIGSTOP), 2, doomed=[1], silence=5)
    assert told == [None, None], "who waits for it cannot be woken, and ends as it is"
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and "is gone (no sign of life for" in said[0] and f"step {LAST} is saved" in said[0]
    assert [checkpointing.step_of(path) for path in checkpointing.states(tmp_path / "checkpoints")] == [LAST]


def test_one_that_hangs_while_they_connect_is_found_too(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = dist.init_process_group

    def dying(*arguments: Any, **settings: Any) -> None:
        if settings["rank"] == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        connect(*arguments, **settings)

    monkeypatch.setattr(dist, "init_process_group", dying)
    assert run_ranks(lambda world: "connected", 2, doomed=[1], silence=5) == [None, None]
    assert "error: process 1 of 2 on " in capfd.readouterr().err


def test_all_survivors_name_the_same_one() -> None:
    def work(world: World) -> str:
        if world.rank == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        with pytest.raises(RankLostError) as error, saving_when_lost(lambda lost: f"; {lost} was lost"):
            barrier(world)
        return str(error.value)

    for sentence in run_ranks(work, 3, doomed=[2])[:2]:
        assert sentence.startswith("process 2 of 3 on ") and sentence.endswith("; 2 was lost")
