from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from trainer.logging import RunLog
from trainer.wandb import WandbConfig
from xdecoder.config import ConfigError


class Run:
    """What of wandb's run we use, written down."""

    def __init__(self, **settings: Any) -> None:
        self.settings, self.rows, self.exit_code = settings, [], None
        self.id = settings["id"] or "fresh"

    def define_metric(self, name: str, step_metric: str) -> None:
        self.axis = (name, step_metric)

    def log(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code


class Package:
    class Error(Exception):
        pass

    def __init__(self) -> None:
        self.runs: list[Run] = []

    def init(self, **settings: Any) -> Run:
        if settings["project"] == "nobody's":
            raise self.Error("permission denied")
        self.runs.append(Run(**settings))
        return self.runs[-1]


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Package:
    package = Package()
    monkeypatch.setitem(sys.modules, "wandb", package)
    return package


def test_the_curves_go_to_one_run_also_after_a_resume(tmp_path: Path, package: Package) -> None:
    folder = tmp_path / "seven"
    folder.mkdir()
    (folder / "config.yaml").write_text("seed: 3\n")
    with RunLog(folder, wandb=WandbConfig(project="ours")) as log:
        log.write(10, {"loss": 1.5, "losses": {"a/b": 1.5}})
        log.write_results(10, {"set/PQ": 3.0})
    with RunLog(folder, step=10, wandb=WandbConfig(project="ours")) as log:
        log.write(20, {"loss": 1.0})
    first, second = package.runs
    assert first.rows == [{"loss": 1.5, "losses/a/b": 1.5, "step": 10}, {"results/set/PQ": 3.0, "step": 10}]
    assert second.rows == [{"loss": 1.0, "step": 20}]
    assert first.settings["name"] == "seven"
    assert first.settings["config"] == {"seed": 3}
    assert (first.settings["id"], second.settings["id"], second.settings["resume"]) == (None, "fresh", "allow")
    assert first.axis == ("*", "step")
    assert first.exit_code == 0


def test_a_run_that_fails_is_told_so(tmp_path: Path, package: Package) -> None:
    with pytest.raises(RuntimeError), RunLog(tmp_path, wandb=WandbConfig(project="ours")):
        raise RuntimeError("power cut")
    assert package.runs[0].exit_code == 1


def test_refusals_are_one_sentence(tmp_path: Path, package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match='no run of project "nobody\'s" could be opened .permission denied.; log in'):
        RunLog(tmp_path, wandb=WandbConfig(project="nobody's"))
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"package is missing; pip install '\.\[wandb\]'"):
        RunLog(tmp_path, wandb=WandbConfig(project="ours"))


@pytest.mark.filterwarnings("default")  # wandb's own
def test_the_real_package_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with RunLog(tmp_path, wandb=WandbConfig(project="ours", mode="offline")) as log:
        log.write(1, {"loss": 1.5})
    number = (tmp_path / "wandb_id.txt").read_text().strip()
    (written,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    assert number in written.name
    assert b"loss" in written.read_bytes()
    assert json.loads((tmp_path / "log.jsonl").read_text())["loss"] == 1.5
