"""Every command of demo/finetune_own_data.md runs, in the order of the page, with a small network and few steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.documents import blocks, run, work_folder
from trainer.experiment import ExperimentConfig
from xdecoder.config import load

pytestmark = pytest.mark.slow

PAGE = "demo/finetune_own_data.md"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    work_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_from_top_to_bottom(root: Path, checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for block in blocks(PAGE, "sh") for line in block.lines]
    assert lines[0] == "xdecoder train FOLDER --weights focal-t"
    for line in lines[1:]:
        assert run(line) == 0, f"{line}\n{capsys.readouterr().err}"
    for name, metric in (("before", "AP"), ("own_data_small", "AP"), ("own_classes_small", "top1")):
        scores = json.loads((checkout / f"runs/{name}/results.json").read_text())
        assert any(key.lower().replace("-", "") == f"own_val/{metric}".lower() for key in scores), sorted(scores)
    assert "own_train: your own data: mask PNGs" in capsys.readouterr().out
    (script,) = blocks(PAGE, "python")
    exec(compile(script.text, PAGE, "exec"), {})
    assert (checkout / "gems.png").stat().st_size > 0


def test_a_mistake_is_told_before_anything_is_trained(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "mine").mkdir()
    assert run("python train.py configs/finetune/own_data_small.yaml data.own=mine") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {checkout}/mine: is in no format that is known here; expected a COCO JSON")
    assert not (checkout / "runs/own_data_small").exists()


def test_the_configuration_for_the_published_network(root: Path) -> None:
    config = load(ExperimentConfig, root / "configs/finetune/own_data.yaml", ["data.own=here", "weights=there.pt"])
    assert config.model == load(ExperimentConfig, root / "configs/xdecoder/focal_t.yaml").model
    assert {entry.dataset.images for entry in (*config.data.train, *config.data.evaluate)} == {str(Path("here").absolute())}  # type: ignore[union-attr]
    assert config.weights == "there.pt"
