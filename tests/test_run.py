"""One command from data to a report, and the rooms that it needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import run
from datasets.prepare import own_example
from tests.documents import work_folder
from trainer.schema import schema
from xdecoder import cli, rooms


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    work_folder(tmp_path)
    own_example.prepare(tmp_path, images=12, side=64)
    monkeypatch.chdir(tmp_path)
    names = {"SMALL": "own_data_small", "CLASSES": "own_classes_small", "LARGE": "own_data"}
    for name, config in names.items():
        monkeypatch.setattr(run, name, tmp_path / f"configs/finetune/{config}.yaml")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("data", ["own_example/yolo/data.yaml", "own_example/folders"])
def test_from_data_to_a_report(data: str, checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["trainer.steps=2", "trainer.device=cpu", "data.train.0.batch_size=2"]
    assert cli.main(["train", data, "--output", "runs/mine", *few]) == 0, capsys.readouterr().err
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("== ")] == ["== check", "== train", "== measure", "== report"]
    assert lines[-1].startswith(f"{checkout}/runs/mine/report.html: ") and ". Next, " in lines[-1]
    assert (checkout / "runs/mine/report.html").is_file() and (checkout / "runs/mine/model.pt").is_file()


def test_steps_and_experiments_suit_the_data(checkout: Path) -> None:
    assert run.recipe(checkout / "own_example/yolo", None) == (run.SMALL, run.FEWEST)
    assert run.recipe(checkout / "own_example/yolo", "focal-t")[0] == run.LARGE
    assert run.recipe(checkout / "own_example/folders", None)[0] == run.CLASSES


def test_what_is_no_data(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["nowhere"]) == 2
    assert capsys.readouterr().err.startswith("error: nowhere: no such folder or file; expected a COCO JSON")


def test_every_room_has_its_command() -> None:
    assert (rooms.folder() / "run.py").is_file()
    for module, _ in rooms.COMMANDS.values():
        place = rooms.folder() / module.replace(".", "/")
        assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file(), module


def test_the_schema_knows_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    found = schema()
    assert {"model", "tasks", "data", "trainer", "base"} <= set(found["properties"])
    assert cli.main(["schema"]) == 0 and json.loads(capsys.readouterr().out) == found
