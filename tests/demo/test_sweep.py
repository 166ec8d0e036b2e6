"""The example of a search, on runs that are made up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

optuna = pytest.importorskip("optuna", reason="the search needs optuna (pip install '.[sweep]')")


def run(line: Sequence[str]) -> int:
    """What train.py and eval.py would do: eval.py leaves scores, the better, the nearer settings are to some."""
    script, _, *settings = line
    given = dict(each.split("=") for each in settings)
    folder = Path(given["output"])
    if script == "train.py":
        folder.mkdir()
        return 0
    error = abs(float(given["trainer.learning_rate"]) - 0.01) + int(given["seed"])
    (folder / "results.json").write_text(json.dumps({"set/PQ": 50 - 100 * error, "steps": int(given["trainer.steps"])}))
    return 0


def test_a_search_finds_what_is_better_and_goes_on(tmp_path: Path, capsys: Any) -> None:
    import sweep

    line = ["some.yaml", "trainer.steps=3", "--score", "set/PQ", "--output", str(tmp_path / "study")]
    line += ["--search", "trainer.learning_rate=1e-4:1e-1:log", "seed=0:1"]
    assert sweep.main([*line, "--trials", "4"], run) == 0
    assert sweep.main([*line, "--trials", "2"], run) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert told.startswith("best of 6: set/PQ ") and "trainer.learning_rate=" in told and "seed=" in told
    scores = [json.loads((tmp_path / f"study/trial_{n:03}/results.json").read_text())["set/PQ"] for n in range(6)]
    assert f"set/PQ {max(scores):.4g} with" in told and len(set(scores)) == 6


def test_faults(tmp_path: Path, capsys: Any) -> None:
    import sweep

    line = ["some.yaml", "--score", "set/PQ", "--output", str(tmp_path / "study"), "--search"]
    assert sweep.main([*line, "seed=few"]) == 2
    assert "error: --search seed=few: expected LEAST:MOST" in capsys.readouterr().err
    assert sweep.main([*line, "seed=0:1"], lambda line: 2) == 2
    assert "trial_000: this run did not end well" in capsys.readouterr().err
