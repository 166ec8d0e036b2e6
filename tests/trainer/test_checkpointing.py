from __future__ import annotations

import random
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from trainer import checkpointing

CPU = torch.device("cpu")


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 5, 20, 100):
        checkpointing.save({"step": step}, tmp_path, step, keep_last=2)
    assert [checkpointing.step_of(path) for path in checkpointing.states(tmp_path)] == [20, 100]
    found = checkpointing.latest(tmp_path)
    assert found is not None
    assert found[1]["step"] == 100


def test_no_folder_is_no_state(tmp_path: Path) -> None:
    assert checkpointing.latest(tmp_path / "none") is None


def test_unreadable_states_are_skipped_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step in (1, 2, 3):
        checkpointing.save({"step": step}, tmp_path, step, keep_last=9)
    (tmp_path / "step_00000003.pt").write_bytes((tmp_path / "step_00000003.pt").read_bytes()[:100])
    torch.save({"something": "else"}, tmp_path / "step_00000004.pt")
    found = checkpointing.latest(tmp_path)
    assert found is not None
    assert found[1]["step"] == 2
    assert "step_00000003.pt: truncated" in caplog.text
    assert "step_00000004.pt: not a training state" in caplog.text


def test_a_full_disk_leaves_the_old_states_alone(tmp_path: Path) -> None:
    checkpointing.save({"step": 1}, tmp_path, 1, keep_last=1)
    before = (tmp_path / "step_00000001.pt").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))  # no file may grow beyond: a write fails half-way
    try:
        with pytest.raises(OSError, match=r"step_00000002\.pt could not be written \(.+\); nothing was changed"):
            checkpointing.save({"weights": torch.zeros(100_000)}, tmp_path, 2, keep_last=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001.pt"]
    assert (tmp_path / "step_00000001.pt").read_bytes() == before


def test_random_generators_go_on_where_they_were(tmp_path: Path) -> None:
    def draw() -> tuple[object, ...]:
        return random.random(), random.gauss(0, 1), np.random.random(), np.random.normal(), torch.rand(()).item()

    checkpointing.seed_everything(3)
    draw()
    checkpointing.save({"random": checkpointing.random_state(CPU)}, tmp_path, 1, keep_last=1)
    expected = [draw(), draw()]
    found = checkpointing.latest(tmp_path)
    assert found is not None
    checkpointing.restore_random_state(found[1]["random"], CPU)
    assert [draw(), draw()] == expected
