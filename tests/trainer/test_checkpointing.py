from __future__ import annotations

import random
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from trainer import checkpointing
from xdecoder.config import ConfigError

CPU = torch.device("cpu")


def state(**content: object) -> dict[str, object]:
    return dict.fromkeys([*checkpointing.KEYS, "model", "optimizer"]) | content


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 5, 20, 100):
        checkpointing.save(state(step=step), tmp_path, step, keep_last=2)()
    assert [checkpointing.step_of(path) for path in checkpointing.states(tmp_path)] == [20, 100]
    found = checkpointing.latest(tmp_path)
    assert found is not None
    assert found[1]["step"] == 100


def test_no_folder_is_no_state(tmp_path: Path) -> None:
    assert checkpointing.latest(tmp_path / "none") is None


def test_unreadable_states_are_skipped_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step in (1, 2, 3):
        checkpointing.save(state(step=step), tmp_path, step, keep_last=9)()
    (tmp_path / "step_00000003.pt").write_bytes((tmp_path / "step_00000003.pt").read_bytes()[:100])
    torch.save({"something": "else"}, tmp_path / "step_00000004.pt")
    found = checkpointing.latest(tmp_path)
    assert found is not None
    assert found[1]["step"] == 2
    assert "step_00000003.pt: truncated" in caplog.text
    assert "step_00000004.pt: not a training state" in caplog.text


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_is_found_and_the_state_is_kept_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step in (1, 2):
        checkpointing.save(state(step=step, weights=torch.randn(1000)), tmp_path, step, keep_last=9)()
    damaged = tmp_path / "step_00000002.pt"
    flip(damaged, damaged.stat().st_size // 2)  # in the middle of the weights, where torch looks at nothing
    content = damaged.read_bytes()
    found = checkpointing.latest(tmp_path)
    assert found is not None and found[1]["step"] == 1
    assert "step_00000002.pt: damaged" in caplog.text and "going back to the state of step 1" in caplog.text
    assert checkpointing.states(tmp_path) == [tmp_path / "step_00000001.pt"]
    checkpointing.save(state(step=2), tmp_path, 2, keep_last=1)()
    assert [path.name for path in checkpointing.states(tmp_path)] == ["step_00000002.pt"], "the new one stays"
    assert (tmp_path / "damaged" / "step_00000002.pt").read_bytes() == content, "and so does what was damaged"


def test_nothing_but_damaged_states_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    for step in (1, 2):
        checkpointing.save(state(step=step), tmp_path, step, keep_last=9)()
        flip(tmp_path / f"step_{step:08}.pt", 100)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.pt")}
    with pytest.raises(ConfigError, match=r"none of the 2 training states there can be used \(.*step_00000002.*--fresh"):
        checkpointing.latest(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.pt")} == before


def test_a_state_that_lacks_something_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpointing.save(state(step=1), tmp_path, 1, keep_last=9)()
    lacking = state(step=2)
    del lacking["schedule"]
    checkpointing.save(lacking, tmp_path, 2, keep_last=9)()
    found = checkpointing.latest(tmp_path)
    assert found is not None and found[1]["step"] == 1
    assert "a training state without schedule" in caplog.text


def test_what_cannot_be_read_back_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpointing.save(state(step=1), tmp_path, 1, keep_last=1)()
    save = torch.save

    def failing_disk(content: Any, file: Any) -> None:
        save(content, file)
        file.seek(100)
        file.write(b"\xff")

    monkeypatch.setattr(torch, "save", failing_disk)
    with pytest.raises(OSError, match="reads differently"):
        checkpointing.save(state(step=2), tmp_path, 2, keep_last=1)()
    found = checkpointing.latest(tmp_path)
    assert found is not None and found[1]["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001.pt"], "it never took its name"


def test_a_full_disk_leaves_the_old_states_alone(tmp_path: Path) -> None:
    checkpointing.save(state(step=1), tmp_path, 1, keep_last=1)()
    before = (tmp_path / "step_00000001.pt").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))  # no file may grow beyond: a write fails half-way
    try:
        with pytest.raises(OSError, match=r"step_00000002\.pt could not be written \(.+\); nothing was changed"):
            checkpointing.save({"weights": torch.zeros(100_000)}, tmp_path, 2, keep_last=1)()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001.pt"]
    assert (tmp_path / "step_00000001.pt").read_bytes() == before


def test_random_generators_go_on_where_they_were(tmp_path: Path) -> None:
    def draw() -> tuple[object, ...]:
        return random.random(), random.gauss(0, 1), np.random.random(), np.random.normal(), torch.rand(()).item()

    checkpointing.seed_everything(3)
    draw()
    checkpointing.save(state(random=checkpointing.random_state(CPU)), tmp_path, 1, keep_last=1)()
    expected = [draw(), draw()]
    found = checkpointing.latest(tmp_path)
    assert found is not None
    checkpointing.restore_random_state(found[1]["random"], CPU)
    assert [draw(), draw()] == expected
