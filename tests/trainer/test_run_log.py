from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainer import logging as run_logging
from trainer.logging import Progress, RunLog


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_lines_and_tensorboard(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.write(10, {"loss": 1.5, "losses": {"a/b": 1.5}})
        log.write_results(10, {"set/PQ": 3.0})
    assert lines(tmp_path) == [{"step": 10, "loss": 1.5, "losses": {"a/b": 1.5}}]
    assert json.loads((tmp_path / "evaluations.jsonl").read_text()) == {"step": 10, "results": {"set/PQ": 3.0}}
    events = list((tmp_path / "tensorboard").iterdir())
    assert len(events) == 1
    assert b"losses/a/b" in events[0].read_bytes()


def test_a_resumed_run_drops_what_will_happen_again_and_half_lines(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        for step in (10, 20, 30):
            log.write(step, {"loss": float(step)})
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 15, "lo')
    with RunLog(tmp_path, step=20) as log:
        log.write(30, {"loss": 0.0})
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(10, 10.0), (20, 20.0), (30, 0.0)]


@pytest.mark.parametrize(
    "damage",
    [b'{"step": 20, "lo\n', b"\x00\xff\xfe\n", b"[1]\n", b'{"loss": 1.0}\n', b'{"step": "20"}\n', b'{"a":' * 9999 + b"\n"],
)
def test_a_damaged_log_is_set_aside_and_what_is_whole_goes_on(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 10, "loss": 1.0}\n' + damage + b'{"step": 30, "loss": 1.0}\n')
    before = path.read_bytes()
    with RunLog(tmp_path, step=30) as log:
        log.write(40, {"loss": 2.0})
    assert [line["step"] for line in lines(tmp_path)] == [10, 30, 40]
    assert (tmp_path / "log.jsonl.damaged1").read_bytes() == before
    assert "log.jsonl: 1 damaged lines are left out" in caplog.text


def test_evaluations_that_will_happen_again_are_dropped_too(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        for step in (10, 20):
            log.write_results(step, {"set/PQ": 1.0})
    with RunLog(tmp_path, step=10) as log:
        log.write_results(20, {"set/PQ": 2.0})
    told = [json.loads(line) for line in (tmp_path / "evaluations.jsonl").read_text().splitlines()]
    assert [(line["step"], line["results"]["set/PQ"]) for line in told] == [(10, 1.0), (20, 2.0)]


def test_progress_without_a_terminal_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(run_logging.time, "monotonic", lambda: float(next(clock)))
    with Progress(20, "step") as progress:
        for _ in range(20):
            progress.advance()
            progress.tell("loss 1")
    said = capsys.readouterr().err.splitlines()
    assert 2 < len(said) < 12
    assert "loss 1" in said[0]
    assert said[0].endswith("left")
    assert said[-1].startswith("step 20/20  done in")


def test_other_processes_keep_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(1, "step", show=False) as progress:
        progress.advance()
        progress.tell("loss 1")
    assert capsys.readouterr().err == ""
