"""Sets as people have them, through the doctor, training, evaluation and the predictor: all read them alike or say why not."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from datasets.check.__main__ import main as check
from trainer.experiment import ExperimentConfig
from xdecoder import checkpoint
from xdecoder.config import parse
from xdecoder.model import XDecoder

MODEL = {
    "backbone": {"name": "focal", "width": 16, "depths": [1, 1, 1, 1], "levels": 2, "drop_path": 0.0},
    "pixel_decoder": {"name": "fpn", "width": 32, "layers": 1, "heads": 4, "hidden": 32},
    "decoder": {"queries": 7, "layers": 2, "width": 32, "heads": 4, "hidden": 32, "joint_width": 32},
    "language": {"merges": 500, "width": 32, "heads": 4, "layers": 1, "output_width": 32},
    "image_size": 64,
}
EXPERIMENT = {
    "model": MODEL,
    "tasks": {
        "segmentation": {"templates": "none", "points": 64, "matching": {"points": 64}},
        "retrieval": {},
        "classification": {"templates": "none"},
    },
    "trainer": {"steps": 2, "save_every": 2, "log_every": 1, "device": "cpu", "warmup_steps": 0},
}
Case = Callable[[Path], Path]


def experiment(folder: Path, own: Path, output: Path, classes: bool = False) -> Path:
    """The YAML of a small experiment on own data."""
    learn, measure = ("retrieval", "classification") if classes else ("segmentation", "segmentation")
    entry = {"transform": {"name": "stretch", "size": 64}}
    data = {
        "own": str(own),
        "train": [{"dataset": "own_train", "tasks": [learn], "batch_size": 2, **entry}],
        "evaluate": [{"dataset": "own_val", "tasks": [measure], "batch_size": 2, **entry}],
    }
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({**EXPERIMENT, "data": data, "output": str(output)}))
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "model.pt"
    torch.manual_seed(0)
    checkpoint.save(XDecoder(parse(ExperimentConfig, {**EXPERIMENT, "data": {}}).model), path)
    return path


class Told:
    """What each program did with a set: exit status and words."""

    def __init__(self, own: Path, work: Path, network: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.own, self.work, self.network, self.capsys = own, work, network, capsys
        self.yaml = experiment(work, own, work / "run", classes=(own / "box").is_dir())

    def check(self) -> tuple[int, str]:
        self.capsys.readouterr()
        return check([str(self.own)]), self.capsys.readouterr().out

    def train(self) -> tuple[int, str]:
        return self._run("train", [str(self.yaml), "--fresh"])

    def eval(self) -> tuple[int, str]:
        return self._run("eval", [str(self.yaml), f"checkpoint={self.network}"][:1] + ["--checkpoint", str(self.network)])

    def _run(self, program: str, arguments: list[str]) -> tuple[int, str]:
        self.capsys.readouterr()
        status = importlib.import_module(program).main(arguments)
        said = self.capsys.readouterr()
        assert "Traceback" not in said.err
        return status, said.out + said.err
