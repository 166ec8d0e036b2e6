from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from trainer.logging import RunLog
from trainer.mlflow import MlflowConfig
from xdecoder.config import ConfigError


class RefusedError(Exception):
    pass


class Client:
    """What of MLflow's client we use, written down."""

    calls: list[tuple[Any, ...]] = []

    def __init__(self, address: str | None) -> None:
        self.calls.append(("open", address))

    def get_experiment_by_name(self, name: str) -> None:
        if name == "nobody's":
            raise RefusedError("permission\ndenied")

    def create_experiment(self, name: str) -> str:
        return f"number of {name}"

    def create_run(self, experiment: str, run_name: str) -> Any:
        self.calls.append(("create", experiment, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id="seven"))

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **named: self.calls.append((name, *arguments, *named.values()))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    package = {name: ModuleType(name) for name in ("mlflow", "mlflow.exceptions", "mlflow.tracking")}
    package["mlflow.exceptions"].MlflowException = RefusedError  # type: ignore[attr-defined]
    package["mlflow.tracking"].MlflowClient = Client  # type: ignore[attr-defined]
    for name, module in package.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(Client, "calls", [])
    return Client.calls


def test_the_curves_go_to_one_run_also_after_a_resume(tmp_path: Path, calls: list[tuple[Any, ...]]) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.yaml").write_text("seed: 3\ntrainer: {steps: 10}\n")
    with RunLog(folder, mlflow=MlflowConfig(tracking_uri="sqlite:///x")) as log:
        log.write(10, {"loss": 1.5, "losses": {"a/b": 1.5}})
        log.write_results(10, {"set/PQ": 3.0})
    assert calls == [
        ("open", "sqlite:///x"),
        ("create", "number of xdecoder", "mine"),
        ("log_param", "seven", "seed", "3"),
        ("log_param", "seven", "trainer.steps", "10"),
        ("log_metric", "seven", "loss", 1.5, 10),
        ("log_metric", "seven", "losses/a/b", 1.5, 10),
        ("log_metric", "seven", "results/set/PQ", 3.0, 10),
        ("set_terminated", "seven", "FINISHED"),
    ]
    calls.clear()
    with pytest.raises(KeyError), RunLog(folder, step=10, mlflow=MlflowConfig()):
        raise KeyError
    assert calls == [("open", None), ("update_run", "seven", "RUNNING"), ("set_terminated", "seven", "FAILED")]


def test_faults_are_one_sentence(tmp_path: Path, calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"no run of \"nobody's\" could be opened \(permission denied\)"):
        RunLog(tmp_path, mlflow=MlflowConfig(experiment="nobody's"))
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.delitem(sys.modules, "mlflow.exceptions")
    with pytest.raises(ConfigError, match=r"package is missing; pip install '\.\[mlflow\]'"):
        RunLog(tmp_path, mlflow=MlflowConfig())
