"""States are read back and take their names beside the training; what it may count on nevertheless."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.standin import Model, Task, batches
from trainer import checkpointing
from trainer.distributed import ALONE
from trainer.trainer import Stream, Trainer, TrainerConfig

CPU = torch.device("cpu")


def state(step: int) -> dict[str, Any]:
    return dict.fromkeys([*checkpointing.KEYS, *checkpointing.WHOLE]) | {"step": step, "model": {"a": torch.full((99,), step)}}


def save(folder: Path, step: int, sharded: bool) -> checkpointing.Rest:
    if not sharded:
        return checkpointing.save(state(step), folder, step, keep_last=1)
    plain = {key: value for key, value in state(step).items() if key not in checkpointing.WHOLE}
    return checkpointing.save_shards({"model.a": torch.full((99,), float(step))}, plain, folder, step, 1, ALONE)


def steps(folder: Path) -> list[int]:
    return [checkpointing.step_of(path) for path in checkpointing.states(folder)]


both = pytest.mark.parametrize("sharded", [False, True])
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")


@both
def test_a_crash_before_a_state_was_read_back_leaves_the_older_one_and_no_draft(tmp_path: Path, sharded: bool) -> None:
    save(tmp_path / "run", 1, sharded)()
    rest = save(tmp_path / "run", 2, sharded)
    shutil.copytree(tmp_path / "run", tmp_path / "left")  # as a crash would leave it
    assert steps(tmp_path / "left") == [1] and len(list((tmp_path / "left").iterdir())) == 2
    checkpointing.clear_drafts(tmp_path / "left")
    assert [path.stem for path in (tmp_path / "left").iterdir()] == ["step_00000001"]
    found = checkpointing.latest(tmp_path / "left")
    assert found is not None and found[1]["step"] == 1
    rest()
    assert steps(tmp_path / "run") == [2] and len(list((tmp_path / "run").iterdir())) == 1


@both
def test_what_the_disk_has_changed_replaces_nothing(tmp_path: Path, sharded: bool) -> None:
    save(tmp_path, 1, sharded)()
    rest = save(tmp_path, 2, sharded)
    draft = next(tmp_path.glob(".step_00000002*"))
    written = next(draft.glob("*.safetensors")) if sharded else draft
    content = bytearray(written.read_bytes())
    content[len(content) // 2] ^= 1
    with open(written, "r+b") as file:
        file.write(content)
    with pytest.raises(OSError, match="reads differently than it was written; is the disk failing") as error:
        rest()
    assert str(tmp_path / "step_00000002") in str(error.value)
    assert [path.stem for path in tmp_path.iterdir()] == ["step_00000001"]


def test_weights_may_change_before_the_rest(tmp_path: Path) -> None:
    content = state(1)
    rest = checkpointing.save(content, tmp_path, 1, keep_last=1)
    content["model"]["a"].zero_()
    rest()
    found = checkpointing.latest(tmp_path)
    assert found is not None and found[1]["model"]["a"].eq(1).all()


def trainer(folder: Path, steps: int = 8) -> Trainer:
    torch.manual_seed(0)
    config = TrainerConfig(steps=steps, learning_rate=0.01, log_every=50, save_every=3, keep_last=1, device="cpu")
    return Trainer(config, Model(), [Stream([Task("a")], batches)], CPU, folder)


@pytest.fixture
def read_back(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], bool]], None]:
    """Has the given function say, after whatever wait, whether the n-th state to be read back is as it was written."""

    def install(intact: Callable[[int], bool]) -> None:
        count = 0

        def check(path: Path) -> None:
            nonlocal count
            count += 1
            if not intact(count):
                raise ValueError("damaged")

        monkeypatch.setattr(checkpointing, "check_zip", check)

    return install


def slowly(number: int) -> bool:
    time.sleep(0.2)
    return True


def test_training_goes_on_meanwhile(tmp_path: Path, read_back: Any) -> None:
    further, beside = threading.Event(), []

    def wait_for_training(number: int) -> bool:
        beside.append(number > 1 or further.wait(10))
        return True

    read_back(wait_for_training)
    training = trainer(tmp_path)
    assert training.train(lambda: further.set() if training.step == 5 else None)
    assert beside == [True] * 3, "the state of step 3 was being read back while steps 4 and 5 were made"


def test_the_last_state_is_there_when_training_ends(tmp_path: Path, read_back: Any) -> None:
    read_back(slowly)
    training = trainer(tmp_path)
    assert training.train()
    assert steps(training.checkpoints) == [8]


def test_a_signal_to_stop_waits_for_it(tmp_path: Path, read_back: Any) -> None:
    read_back(slowly)
    training = trainer(tmp_path)
    assert not training.train(lambda: os.kill(os.getpid(), signal.SIGTERM) if training.step == 4 else None)
    assert steps(training.checkpoints) == [4], "also two in quick succession: that of step 3 came before"


def test_an_error_waits_for_it(tmp_path: Path, read_back: Any) -> None:
    def fail() -> None:
        if training.step == 4:
            raise RuntimeError("something else")

    read_back(slowly)
    training = trainer(tmp_path)
    with pytest.raises(RuntimeError, match="something else"):
        training.train(fail)
    assert steps(training.checkpoints) == [3]


def test_one_that_fails_is_told_and_the_next_may_do_better(
    tmp_path: Path, read_back: Any, caplog: pytest.LogCaptureFixture
) -> None:
    read_back(lambda number: number != 2)
    training, seen = trainer(tmp_path), {}
    assert training.train(lambda: seen.update({training.step: steps(training.checkpoints)}))
    assert seen[8] == [3] and steps(training.checkpoints) == [8]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1 and "step_00000006.pt could not be written (it reads differently than it was written" in told[0]


def test_two_in_a_row_that_fail_end_the_run(tmp_path: Path, read_back: Any) -> None:
    read_back(lambda number: number == 1)
    training = trainer(tmp_path, steps=20)
    with pytest.raises(OSError, match=r"step_00000009\.pt could not be written"):
        training.train()
    assert steps(training.checkpoints) == [3] and training.step == 9


def test_the_last_must_not_fail(tmp_path: Path, read_back: Any) -> None:
    read_back(lambda number: number < 3)
    training = trainer(tmp_path)
    with pytest.raises(OSError, match=r"step_00000008\.pt could not be written"):
        training.train()
    assert steps(training.checkpoints) == [6]
