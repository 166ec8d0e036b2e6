"""The runner over sets and seeds, with a stand-in for training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from trainer.experiment import ExperimentConfig
from xdecoder.config import load
from xdecoder.files import read_json, write_json


def test_sets_and_seeds_are_run_once_and_summed_up(tmp_path: Path, root: Path, capsys: Any) -> None:
    import seginw

    lines: list[Sequence[str]] = []

    def run(line: Sequence[str]) -> int:
        lines.append(line)
        settings = [part for part in line[2:] if "=" in part]
        config = load(ExperimentConfig, root / line[1], [part for part in settings if not part.startswith("weights=")])
        name = config.data.evaluate[0].prefix
        assert config.data.train[0].dataset == name.replace("_val", "_train_10shot")
        if line[0] == "eval.py":
            score = {"seginw_Cows_val": 10.0, "seginw_Bottles_val": 40.0}[name] + config.seed
            write_json(config.output / "results.json", {f"{name}/AP": score})
        return 0

    line = ["--weights", "w.pt", "--sets", "Cows,Bottles", "--seeds", "0,2", "--output", str(tmp_path)]
    assert seginw.main(line, run) == 0
    assert [each[0] for each in lines] == ["train.py", "eval.py"] * 4 and "weights=w.pt" in lines[0]
    out = capsys.readouterr().out
    assert "seed 2: wild_2_of_25/AP_mean 27.0" in out and "wild_2_of_25/AP_mean: 26.0 ± 1.0 over 2 seeds" in out
    assert read_json(tmp_path / "10shot/summary.json")["summary"]["wild_2_of_25/AP_median"] == {"mean": 26.0, "spread": 1.0}
    assert seginw.main(line, run) == 0 and len(lines) == 8, "what is measured is not run again"
    assert seginw.main([*line[:2], "--sets", "Unicorns"], run) == 2
    assert "--sets: 'Unicorns' is none of the 25 sets" in capsys.readouterr().err


def test_a_failed_training_stops(tmp_path: Path) -> None:
    import seginw

    assert seginw.main(["--weights", "w.pt", "--sets", "Cows", "--output", str(tmp_path)], lambda line: 3) == 3
    with pytest.raises(SystemExit):
        seginw.main([])
