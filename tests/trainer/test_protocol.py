"""A network is asked as it was measured, by everybody: the protocol in its checkpoint."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import xdecoder
from datasets.catalog import find
from datasets.evaluators import PanopticEvaluator, SemanticEvaluator
from datasets.loader import evaluation_loader
from datasets.prepare.shapes import prepare
from datasets.readers import read
from trainer.experiment import ExperimentConfig
from trainer.protocol import protocol_of, settings_for
from xdecoder import checkpoint
from xdecoder.cli import main as command
from xdecoder.config import ConfigError, load, parse
from xdecoder.inference import export
from xdecoder.inference.predictor import Predictor
from xdecoder.postprocessing import PostprocessingConfig
from xdecoder.protocol import Protocol
from xdecoder.resizing import Stretch
from xdecoder.tasks import TasksConfig
from xdecoder.types import PanopticResult, SegmentationResult

SETTINGS: dict[str, Any] = {
    "model": {
        "backbone": {"name": "focal", "width": 16, "depths": [1, 1, 1, 1], "levels": 2, "layer_scale": 1.0, "drop_path": 0.0},
        "pixel_decoder": {"name": "fpn", "width": 32, "layers": 1, "heads": 4, "hidden": 64},
        "decoder": {"queries": 9, "layers": 2, "maps": [1, 2], "width": 32, "heads": 4, "hidden": 64, "joint_width": 32},
        "language": {"merges": 500, "width": 32, "heads": 4, "layers": 1, "output_width": 32, "initial_logit_scale": 3.0},
    },
    "tasks": {
        "segmentation": {
            "templates": "none",
            "learn_texts": False,
            "background": False,
            "denoising_weight": 1.0,
            "points": 128,
            "matching": {"points": 128},
            "postprocessing": {"object_threshold": 0.15, "overlap_threshold": 0.5},
            "early_rejection": {"layer": 1, "keep": 4},
        }
    },
    "trainer": {"steps": 60, "learning_rate": 3e-3, "warmup_steps": 5, "device": "cpu", "log_every": 20},
}
ENTRY = {"dataset": "shapes_val", "tasks": ["segmentation"], "batch_size": 5, "transform": {"name": "stretch", "size": 96}}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten scenes that a small network was taught for a minute's fraction, and measured on by train.py and eval.py."""
    folder = tmp_path_factory.mktemp("scenes")
    prepare(folder / "data", train=1, val=10, novel=1, side=128)
    data = {"root": str(folder / "data"), "train": [{**ENTRY, "cache": True}], "evaluate": [{**ENTRY, "batch_size": 1}]}
    path = folder / "scenes.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "data": data, "output": str(folder / "run")}))
    torch.manual_seed(0)
    for program in ("train", "eval"):
        assert importlib.import_module(program).main([str(path), *(["--images", "0"] if program == "eval" else [])]) == 0
    return path


def scores(experiment: Path, predictor: Predictor) -> dict[str, float]:
    """What the README's lines reach on the ten scenes."""
    config = load(ExperimentConfig, experiment)
    loader = evaluation_loader(config.data.evaluate[0], config.data.root)
    vocabulary = loader.dataset.vocabulary
    assert vocabulary is not None
    things = [name for name, thing in zip(vocabulary.names, vocabulary.is_thing, strict=True) if thing]
    stuff = [name for name in vocabulary.names if name not in things]
    assert (*things, *stuff) == vocabulary.names
    evaluators = PanopticEvaluator(vocabulary), SemanticEvaluator(vocabulary)
    for batch, record in zip(loader, loader.dataset.records, strict=True):
        picture = predictor.encode(record.image)
        found = picture.panoptic(things, stuff)
        semantic = picture.segment([*things, *stuff])
        result = SegmentationResult(semantic.labels, None, PanopticResult(found.ids, found.segments))
        for evaluator in evaluators:
            evaluator.update(result, batch.samples[0])
    return {name: value for evaluator in evaluators for name, value in evaluator.compute().items()}


def test_the_predictor_scores_as_eval_does(experiment: Path) -> None:
    run = experiment.parent / "run"
    measured = json.loads((run / "results.json").read_text())
    asked = scores(experiment, xdecoder.load(run / "model.pt"))
    assert measured["shapes_val/PQ"] > 5
    for name in ("PQ", "PQ_things", "PQ_stuff", "mIoU"):
        assert asked[name] == pytest.approx(measured[f"shapes_val/{name}"], abs=1e-6)
    model = checkpoint.load(run / "model.pt")
    model.protocol = Protocol()
    assert abs(scores(experiment, Predictor(model))["PQ"] - measured["shapes_val/PQ"]) > 1  # so it is worth carrying


def test_what_a_checkpoint_tells(experiment: Path, tmp_path: Path) -> None:
    path = experiment.parent / "run/model.pt"
    protocol = checkpoint.load(path).protocol
    assert protocol == protocol_of(load(ExperimentConfig, experiment).tasks, load(ExperimentConfig, experiment).data)
    assert protocol.taught == protocol.measured == {"shapes_val": ("segmentation",)}
    assert protocol.images == {"segmentation": Stretch(size=96)}
    assert protocol.tasks["segmentation"]["early_rejection"] == {"layer": 1, "keep": 4}
    assert "class_weight" not in protocol.tasks["segmentation"]
    for name in ("again.pt", "again.safetensors"):
        checkpoint.save(checkpoint.load(path), tmp_path / name)
        assert checkpoint.load(tmp_path / name).protocol == protocol


def test_older_files_and_broken_protocols_are_one_sentence(experiment: Path, tmp_path: Path) -> None:
    content = checkpoint.read(experiment.parent / "run/model.pt")
    for change, sentence in (
        (
            {"format": "xdecoder/1"},
            r"model\.pt: a checkpoint of an older format \(xdecoder/1; this is xdecoder/2\), .*train it",
        ),
        ({"protocol": {"imagse": {}}}, r"model\.pt, protocol: unknown key 'imagse'; did you mean 'images'\?"),
        ({"protocol": {"tasks": {"segmentation": {"templates": 3}}}}, r"the network's protocol: key 'segmentation\.templates'"),
        ({"protocol": [1]}, r"model\.pt, protocol"),
    ):
        torch.save(content | change, tmp_path / "model.pt")
        with pytest.raises(ValueError, match=sentence) as caught:
            xdecoder.load(tmp_path / "model.pt")
        assert "\n" not in str(caught.value)


def test_exported_class_texts_are_those_that_were_measured(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "export", lambda *_: None)  # the graph knows no texts, and takes its time
    model = str(experiment.parent / "run/model.pt")
    assert command(["export", "--checkpoint", model, "--out", str(tmp_path / "x.pt2"), "--things", "star"]) == 0
    language = checkpoint.load(model).language  # type: ignore[operator]
    with torch.inference_mode():
        bare = language.vocabulary(("star", "background"), "none")
    np.testing.assert_allclose(np.load(tmp_path / "x.classes.npz")["texts"], bare.numpy(), atol=1e-6)
    capsys.readouterr()


def test_sets_say_how_they_are_measured_where_the_experiment_does_not() -> None:
    data = {
        "train": [{**ENTRY, "dataset": "shapes_train", "tasks": ["segmentation", "captioning"]}],
        "evaluate": [{**ENTRY, "dataset": "ade20k_panoptic_val"}, {**ENTRY, "dataset": "coco_2017_val_panoptic"}],
    }
    config = parse(
        ExperimentConfig, {"data": data, "trainer": {"steps": 1}, "output": "x", "tasks": {"captioning": {"beams": 3}}}
    )
    protocol = protocol_of(config.tasks, config.data)
    assert protocol.tasks["segmentation"]["postprocessing"]["object_threshold"] == 0.4  # the first set's
    assert protocol.tasks["captioning"]["beams"] == 3
    assert set(protocol.measured) == {"ade20k_panoptic_val", "coco_2017_val_panoptic"}
    assert protocol.taught == {"shapes_train": ("segmentation", "captioning")}


def test_what_was_fitted_goes_with_the_network(experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A threshold that keeps a share of the phrases on other scenes, in its file: for Python and for eval.py."""
    config = load(ExperimentConfig, experiment)
    network = tmp_path / "model.pt"
    network.write_bytes(config.model_file.read_bytes())
    entry = {"tasks": ["referring"], "batch_size": 5, "transform": ENTRY["transform"]}
    data = {
        "root": str(config.data.root),
        "fit": [{**entry, "dataset": "shapes_absent_fit"}],
        "evaluate": [{**entry, "dataset": "shapes_absent"}],
    }
    path = tmp_path / "fit.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, "data": data, "output": str(tmp_path)}))
    program = importlib.import_module("eval")
    assert program.main(["fit", str(path), "--keep", "60"]) == 0
    protocol = xdecoder.load(network).model.protocol
    came = protocol.fitted_on["referring"]
    assert came["dataset"] == "shapes_absent_fit" and 60 <= came["T_acc"] < 75
    assert f"threshold {came['threshold']:.4g}" in capsys.readouterr().out
    assert xdecoder.load(network).tasks.referring.threshold == protocol.fitted["referring"]["threshold"] == came["threshold"]
    assert program.main(["fit", str(path), "--keep", "60"]) == 0, "what was fitted before changes nothing"
    assert xdecoder.load(network).model.protocol == protocol
    assert program.main([str(path), "--images", "0"]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert json.loads((tmp_path / "protocol.json").read_text())["shapes_absent"]["referring"]["threshold"] == came["threshold"]
    (batch,) = evaluation_loader(load(ExperimentConfig, path).data.evaluate[0], config.data.root)
    records = read(find("shapes_absent"), config.data.root).records
    user = xdecoder.load(network)
    answers = [
        (found == meant, meant)
        for sample, record in zip(batch.samples, records, strict=True)
        for found, meant in zip(
            user.refer(record.image, sample.phrases.texts).found, sample.phrases.masks.flatten(1).any(1), strict=True
        )
    ]
    for name, there in (("T_acc", True), ("N_acc", False)):
        share = 100 * np.mean([float(right) for right, meant in answers if meant == there])
        assert results[f"shapes_absent/grefcoco_{name}"] == pytest.approx(share), "what is scored is what users are told"
    assert program.main(["fit", str(path), "tasks.referring.threshold=0.2"]) == 2
    assert "tasks.referring.threshold is set" in capsys.readouterr().err
    assert program.main(["fit", str(experiment)]) == 2
    assert "data.fit: there is nothing to fit on" in capsys.readouterr().err


def test_what_was_fitted_is_a_setting_like_any_other() -> None:
    tasks, spec = parse(TasksConfig, {"segmentation": {"temperature": 2.0}}), find("shapes_val")
    fitted = {"segmentation": {"temperature": 3.0, "postprocessing": {"object_threshold": 0.3}}}
    settings = settings_for(spec, tasks, fitted).segmentation
    assert settings.temperature == 2.0, "what the experiment says goes first"
    assert settings.postprocessing == PostprocessingConfig(object_threshold=0.3)
    with pytest.raises(ConfigError, match=r"fitted for segmentation to the network: key 'postprocessing\.object_threshold'"):
        settings_for(spec, tasks, {"segmentation": {"postprocessing": {"object_threshold": "high"}}})
