"""Every command of demo/finetune_own_data.md runs, in the order of the page, with a small network and few steps."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from trainer.experiment import ExperimentConfig
from xdecoder import checkpoint
from xdecoder.config import load
from xdecoder.model import XDecoder

pytestmark = pytest.mark.slow

PAGE = "demo/finetune_own_data.md"
FEW_STEPS = ["trainer.steps=2", "trainer.save_every=2", "trainer.device=cpu", "data.train.0.batch_size=2"]
PROGRAMS = {
    "train.py": "train",
    "eval.py": "eval",
    "datasets.prepare": "datasets.prepare.__main__",
    "datasets.check": "datasets.check.__main__",
}


def blocks(root: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (root / PAGE).read_text(encoding="utf-8"), re.DOTALL)


def program(words: list[str]) -> tuple[Callable[[list[str]], int], list[str]]:
    """The `main` that a command line calls, and its arguments."""
    assert words[0] == "python", words
    name, *arguments = words[2:] if words[1] == "-m" else words[1:]
    main: Callable[[list[str]], int] = importlib.import_module(PROGRAMS[name]).main
    return main, arguments


@pytest.fixture
def checkout(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with the configurations and a network of the quickstart's layout, but smaller."""
    small = {
        "backbone": {"name": "focal", "width": 16, "depths": [1, 1, 1, 1], "levels": 2, "drop_path": 0.0},
        "pixel_decoder": {"name": "fpn", "width": 32, "layers": 1, "heads": 4, "hidden": 32},
        "decoder": {"queries": 7, "layers": 2, "width": 32, "heads": 4, "hidden": 32, "joint_width": 32},
        "language": {"merges": 500, "width": 32, "heads": 4, "layers": 1, "output_width": 32},
        "image_size": 64,
    }
    for path in (root / "configs").rglob("*.yaml"):
        copy = tmp_path / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        settings = yaml.safe_load(path.read_text())
        if path.name == "quickstart.yaml":
            settings["model"] = small
        copy.write_text(yaml.safe_dump(settings))
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    network = XDecoder(load(ExperimentConfig, "configs/finetune/own_data_small.yaml").model)
    checkpoint.save(network, "runs/quickstart/model.pt")
    return tmp_path


def test_the_page_from_top_to_bottom(root: Path, checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for block in blocks(root, "sh") for line in block.splitlines()]
    assert lines[0] == "python train.py configs/finetune/own_data.yaml data.own=FOLDER weights=xdecoder_focalt_last.pt"
    for line in lines[1:]:
        main, arguments = program(shlex.split(line))
        extra = FEW_STEPS if "train.py" in line else ["trainer.device=cpu", "trainer.steps=2"] if "eval.py" in line else []
        assert main([*arguments, *extra]) == 0, f"{line}\n{capsys.readouterr().err}"
    for run, metric in (("before", "AP"), ("own_data_small", "AP"), ("own_classes_small", "top1")):
        scores = json.loads((checkout / f"runs/{run}/results.json").read_text())
        assert any(name.lower().replace("-", "") == f"own_val/{metric}".lower() for name in scores), sorted(scores)
    assert "own_train: your own data: mask PNGs" in capsys.readouterr().out
    (script,) = blocks(root, "python")
    exec(compile(script, PAGE, "exec"), {})
    assert (checkout / "gems.png").stat().st_size > 0


def test_a_mistake_is_told_before_anything_is_trained(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "mine").mkdir()
    main, arguments = program(shlex.split("python train.py configs/finetune/own_data_small.yaml data.own=mine"))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {checkout}/mine: is in no format that is known here; expected a COCO JSON")
    assert not (checkout / "runs/own_data_small").exists()


def test_the_configuration_for_the_published_network(root: Path) -> None:
    config = load(ExperimentConfig, root / "configs/finetune/own_data.yaml", ["data.own=here", "weights=there.pt"])
    assert config.model == load(ExperimentConfig, root / "configs/xdecoder/focal_t.yaml").model
    assert {entry.dataset.images for entry in (*config.data.train, *config.data.evaluate)} == {str(Path("here").absolute())}  # type: ignore[union-attr]
    assert config.weights == "there.pt"
