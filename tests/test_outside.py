"""Networks, tasks, evaluators and readers from outside the repository: what CONTRIBUTING shows, as it stands there."""

from __future__ import annotations

import importlib
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import xdecoder
from tests.tiny import tiny_config
from trainer.experiment import ExperimentConfig
from xdecoder.config import ConfigError, parse

MODULES = ("tinted", "tally")
IMPORTS = """
from pathlib import Path
from typing import Any, ClassVar, Literal
import torch
import torch.nn.functional as F
from torch import nn
from datasets.evaluators import Evaluator
from xdecoder.config import Config
from xdecoder.network import Network, NetworkConfig, Prompt
from xdecoder.tasks.descriptor import Descriptor
from xdecoder.postprocessing import Evidence
from xdecoder.rng import seed_of
"""


Program = Callable[..., int]


@pytest.fixture
def train() -> Program:
    """train.py, called with its arguments; returns its exit status."""
    return lambda *arguments: importlib.import_module("train").main([str(argument) for argument in arguments])


@pytest.fixture
def measure() -> Program:
    return lambda *arguments: importlib.import_module("eval").main([str(argument) for argument in arguments])


def shown(root: Path, module: str) -> str:
    """The code that CONTRIBUTING shows for a module."""
    blocks = re.findall(r"```python\n(.*?)```", (root / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)
    (found,) = [block for block in blocks if f"in your module {module}" in block]
    return textwrap.dedent(found)


@pytest.fixture
def outside(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of modules beside the repository, from which Python imports."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for module in MODULES:
        (folder / f"{module}.py").write_text(IMPORTS + shown(root, module))
    monkeypatch.syspath_prepend(folder)
    yield folder
    for module in MODULES:
        sys.modules.pop(module, None)


@pytest.fixture
def experiment(outside: Path, tmp_path: Path) -> Path:
    """Six plates of a red and a blue half each, and an experiment with the network from outside."""
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for i in range(6):
        labels = np.zeros((32, 32), dtype=np.uint8)
        labels[:, int(rng.integers(8, 24)) :] = 1
        pixels = np.where(labels[..., None] == 0, [220, 30, 30], [30, 30, 220]).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"data/images/{i}.png")
        Image.fromarray(labels).save(tmp_path / f"data/labels/{i}.png")
    plates = {
        "name": "plates",
        "reader": "label_images",
        "images": "images",
        "labels": "labels",
        "classes": ["red", "blue"],
        "evaluators": ["semantic"],
    }
    entry = {"dataset": plates, "tasks": ["segmentation"], "batch_size": 2, "transform": {"name": "stretch", "size": 32}}
    settings = {
        "model": {"name": "tinted:TintConfig", "image_size": 32},
        "data": {"root": str(tmp_path / "data"), "train": [entry], "evaluate": [entry]},
        "trainer": {"steps": 20, "learning_rate": 0.1, "warmup_steps": 0, "device": "cpu"},
        "output": str(tmp_path / "run"),
    }
    path = tmp_path / "tinted.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_a_network_is_trained_measured_saved_and_asked(experiment: Path, train: Program, measure: Program) -> None:
    assert train(experiment) == 0 and measure(experiment) == 0
    run = experiment.parent / "run"
    assert json.loads((run / "results.json").read_text())["plates/mIoU"] == 100
    predictor = xdecoder.load(run / "model.pt")
    assert predictor.model.config.name == "tinted:TintConfig"
    found = predictor.segment(experiment.parent / "data/images/0.png", ["red", "blue"])
    truth = np.array(Image.open(experiment.parent / "data/labels/0.png"))
    assert torch.equal(found.labels, torch.from_numpy(truth).long())
    with pytest.raises(ValueError, match=r"this network \(tinted:TintConfig\) cannot do captioning; it does segmentation"):
        predictor.caption(experiment.parent / "data/images/0.png")
    with pytest.raises(ValueError, match="cannot be exported"):
        predictor.model.class_texts(["red"], None)


def test_a_checkpoint_does_not_choose_what_is_imported(experiment: Path, train: Program, tmp_path: Path) -> None:
    assert train(experiment, "trainer.steps=1") == 0
    sys.modules.pop("tinted")
    with pytest.raises(ValueError, match=r"model\.pt: holds a network from outside, 'tinted:TintConfig'; import tinted before"):
        xdecoder.load(tmp_path / "run/model.pt")
    assert "tinted" not in sys.modules


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("xdecodr", "unknown network 'xdecodr'; did you mean 'xdecoder'?"),
        ("nowhere:TintConfig", "network 'nowhere:TintConfig' cannot be imported"),
        ("tinted:Tint", "network 'tinted:Tint': tinted:Tint is no subclass of xdecoder.network.NetworkConfig"),
        (3, "a network's 'name' is one of xdecoder"),
    ],
)
def test_names_that_are_no_networks(outside: Path, name: object, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(ExperimentConfig, {"model": {"name": name}, "data": {}, "trainer": {"steps": 1}, "output": "x"})
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_network_checks_its_own_keys(outside: Path) -> None:
    settings = {"model": {"name": "tinted:TintConfig", "widht": 3}, "data": {}, "trainer": {"steps": 1}, "output": "x"}
    with pytest.raises(ConfigError, match=r"unknown key 'model\.widht'; did you mean 'width'\?"):
        parse(ExperimentConfig, settings)


def test_what_a_network_cannot_learn_is_said_before_it_is_tried(
    experiment: Path, train: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(experiment, "data.train.0.tasks=[referring]") == 2
    assert "this network (tinted:TintConfig) cannot do referring; it does segmentation" in capsys.readouterr().err


@pytest.fixture
def tallying(experiment: Path) -> Path:
    """The same plates, for our own network and a task from outside beside segmentation."""
    settings = yaml.safe_load(experiment.read_text())
    for entry in (settings["data"]["train"][0], settings["data"]["evaluate"][0]):
        entry["tasks"] = ["segmentation", "tally:TallyConfig"]
        entry["transform"] = {"name": "stretch", "size": 64}
        entry["dataset"] = entry["dataset"] | {"evaluators": ["semantic", "tally:TallyError"]}
    points = {"points": 32, "matching": {"points": 32}, "templates": "none"}
    settings["tasks"] = {"segmentation": points, "others": {"tally:TallyConfig": {"weight": 0.5}}}
    settings["model"] = tiny_config().model_dump(mode="json")
    settings["trainer"] |= {"steps": 4, "learning_rate": 1e-3}
    experiment.write_text(yaml.safe_dump(settings))
    return experiment


def test_a_task_and_its_evaluator(tallying: Path, train: Program, measure: Program, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tallying) == 0
    assert measure(tallying, "--images", "1") == 0
    run = tallying.parent / "run"
    results = json.loads((run / "results.json").read_text())
    assert {"plates/mIoU", "plates/tally_error"} <= results.keys() and results["plates/tally_error"] >= 0
    assert json.loads((run / "protocol.json").read_text())["plates"]["tally:TallyConfig"]["images"] == 6
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert any("tally:TallyConfig/error" in json.dumps(row) for row in log)
    assert xdecoder.load(run / "model.pt").model.protocol.taught == {"plates": ("segmentation", "tally:TallyConfig")}
    assert train(tallying) == 0  # the settings that were written down are those that were given
    capsys.readouterr()
    assert measure(tallying, "--save-predictions", "--fresh") == 2
    assert "results of task 'tally:TallyConfig' cannot be saved: there is no format for them" in capsys.readouterr().err
    assert measure(tallying, "data.evaluate.0.dataset.evaluators=['tally:Tally']") == 2
    assert "evaluator 'tally:Tally': tally:Tally is no subclass of datasets.evaluators" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("data.train.0.tasks=[segmentatoin]", "unknown task 'segmentatoin'; did you mean 'segmentation'?"),
        ("data.train.0.tasks=['nowhere:Config']", "task 'nowhere:Config' cannot be imported"),
        ("data.train.0.tasks=['tinted:TintConfig']", "its settings need a class variable 'descriptor'"),
        ("data.evaluate.0.dataset.evaluators=[panoptik]", "unknown evaluator 'panoptik'; did you mean 'panoptic'?"),
        ("tasks.others={'tally:TallyConfig': {wieght: 1}}", "unknown key 'wieght'; did you mean 'weight'?"),
    ],
)
def test_names_that_are_no_tasks_and_no_evaluators(
    tallying: Path, measure: Program, capsys: pytest.CaptureFixture[str], change: str, sentence: str
) -> None:
    assert measure(tallying, change, "--checkpoint", "none.pt") == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1
