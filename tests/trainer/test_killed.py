"""A run that is killed again and again, without warning and also while it writes, gives what an undisturbed one gives."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.standin import Model, Task, batches
from trainer import checkpointing
from trainer.trainer import Stream, Trainer, TrainerConfig
from xdecoder import checkpoint
from xdecoder.files import read_json, sweep, write_json

pytestmark = pytest.mark.slow

STEPS, KILLS = 60, 10


def train(folder: Path, signs_of_life: int | None = None) -> None:
    """The whole run, or what is left of it; a byte goes to `signs_of_life` at every step and just before every fsync."""
    fsync = os.fsync

    def alive() -> None:
        if signs_of_life is not None:
            os.write(signs_of_life, b".")

    def audible_fsync(file: int) -> None:
        alive()
        fsync(file)

    sweep(folder)
    checkpointing.clear_drafts(folder / "checkpoints")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", audible_fsync)
        write_json(folder / "config.json", {"steps": STEPS})
        checkpoint.write({"format": checkpoint.FORMAT, "model": {"a": torch.arange(9.0)}}, folder / "model.pt")
    config = TrainerConfig(steps=STEPS, learning_rate=0.01, log_every=4, save_every=3, device="cpu")
    torch.manual_seed(0)
    streams = [Stream([Task("a")], batches), Stream([Task("a"), Task("b")], batches, weight=0.5)]  # type: ignore[list-item]
    trainer = Trainer(config, Model(), streams, torch.device("cpu"), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", audible_fsync)
        assert trainer.train(alive)


def train_and_die(folder: Path, when: int, delay: float) -> bool:
    """Start the run in a process of its own and kill it `delay` seconds after so many signs of life; whether it was in time."""
    listen, speak = os.pipe()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.close(listen)
            train(folder, speak)
        finally:
            os._exit(0)
    os.close(speak)
    received = 0
    while received < when and os.read(listen, 1):
        received += 1
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(listen)
    return os.WIFSIGNALED(status)


def curve(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in ("step", "loss", "losses", "gradient_norm", "learning_rate")} for line in lines]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """A forked process would wait forever for the threads that computed in the process it comes from."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_killed_ten_times(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    folder, chance, killed = tmp_path / "killed", random.Random(0), 0
    for _ in range(KILLS):
        killed += train_and_die(folder, chance.randint(1, 14), chance.uniform(0, 0.004))
        for path, read in ((folder / "config.json", read_json), (folder / "model.pt", checkpoint.read)):
            assert not path.exists() or read(path), "every file that has its name can be read"
        states = checkpointing.states(folder / "checkpoints")
        for path in states:
            assert checkpoint.read(path)["step"] == checkpointing.step_of(path), "every state that has its name can be read"
    assert killed == KILLS
    assert states and checkpointing.step_of(states[-1]) < STEPS
    train(folder)
    assert curve(folder) == curve(tmp_path / "whole")
    last = [checkpoint.read(checkpointing.states(each / "checkpoints")[-1])["model"] for each in (folder, tmp_path / "whole")]
    assert all(torch.equal(last[0][name], last[1][name]) for name in last[1])
    assert not list(folder.rglob(".*")), "what was left half-written is cleared away"
