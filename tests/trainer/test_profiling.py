from __future__ import annotations

import json
from pathlib import Path

import torch

from trainer.profiling import SKIPPED, traced_steps


def test_a_trace_of_some_steps(tmp_path: Path) -> None:
    with traced_steps(tmp_path / "trace.json", 2) as step_done:
        for size in range(1, SKIPPED + 6):
            torch.ones(size, size) @ torch.ones(size, size)
            step_done()
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    products = [event["args"]["Input Dims"][0] for event in events if event.get("name") == "aten::mm"]
    assert products == [[3, 3], [4, 4]], "the two steps after those to warm up"
    assert "aten::mm" in (tmp_path / "trace.txt").read_text()


def test_no_trace_is_no_file(tmp_path: Path) -> None:
    with traced_steps(tmp_path / "trace.json", 0) as step_done:
        step_done()
    assert not list(tmp_path.iterdir())


def test_a_run_that_ends_early_still_leaves_its_trace(tmp_path: Path) -> None:
    with traced_steps(tmp_path / "trace.json", 100) as step_done:
        for _ in range(SKIPPED + 1):
            torch.ones(3, 3) @ torch.ones(3, 3)
            step_done()
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
