"""train.py and eval.py on a small real network and a few pictures made here."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from trainer import checkpointing, commands
from trainer.evaluation.evaluation import table
from trainer.experiment import ExperimentConfig, first_difference
from trainer.trainer import Trainer
from xdecoder.config import ConfigError, load
from xdecoder.model import XDecoder

pytestmark = pytest.mark.slow

Program = Callable[..., int]
WIDTH = 64


def settings(root: Path, output: Path) -> dict[str, Any]:
    things = {"name": "plates", "reader": "label_images", "images": "images", "labels": "labels", "classes": ["red", "blue"]}
    texts = {"name": "texts", "reader": "captions", "images": "images", "captions": "captions.txt"}
    stretch = {"name": "stretch", "size": 32}
    things["evaluators"], texts["evaluators"] = ["semantic"], ["retrieval"]  # type: ignore[assignment]
    return {
        "model": {
            "backbone": {"name": "focal", "width": 8, "depths": [1, 1, 1, 1], "drop_path": 0.3},
            "pixel_decoder": {"name": "fpn", "width": WIDTH, "layers": 1, "heads": 2, "hidden": 16},
            "decoder": {"queries": 5, "layers": 1, "width": WIDTH, "heads": 2, "hidden": 16, "joint_width": WIDTH},
            "language": {"merges": 0, "width": WIDTH, "heads": 2, "layers": 1, "output_width": WIDTH},
        },
        "tasks": {"segmentation": {"points": 32, "templates": "none"}},
        "data": {
            "root": str(root),
            "train": [
                {"dataset": things, "tasks": ["segmentation"], "batch_size": 2, "transform": {"name": "lsj", "size": 32}},
                {"dataset": texts, "tasks": ["captioning", "retrieval"], "batch_size": 2, "transform": stretch},
            ],
            "evaluate": [
                {"dataset": things, "tasks": ["segmentation"], "batch_size": 2, "transform": stretch},
                {"dataset": texts, "tasks": ["retrieval"], "transform": stretch, "label": "pairs"},
            ],
        },
        "trainer": {"steps": 4, "log_every": 2, "save_every": 2, "device": "cpu", "learning_rate": 1e-3},
        "output": str(output),
    }


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """An experiment file with its pictures: plates of a red and a blue half, and what they are called."""
    root, rng, captions = tmp_path / "data", np.random.default_rng(0), []
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for i in range(5):
        labels = np.zeros((24, 30), dtype=np.uint8)
        labels[:, int(rng.integers(5, 25)) :] = 1
        pixels = np.where(labels[..., None] == 0, [220, 30, 30], [30, 30, 220]).astype(np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{i}.png")
        Image.fromarray(labels).save(root / "labels" / f"{i}.png")
        captions.append(f"{i}.png#0\tplate {i}\n")
    (root / "captions.txt").write_text("".join(captions))
    path = tmp_path / "plates.yaml"
    path.write_text(yaml.safe_dump(settings(root, tmp_path / "run")))
    return path


def script(root: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"script_{name}", root / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def train(root: Path) -> Program:
    """train.py, called with its arguments; returns its exit status."""
    return lambda *arguments: script(root, "train").main([str(argument) for argument in arguments])


@pytest.fixture
def measure(root: Path) -> Program:
    return lambda *arguments: script(root, "eval").main([str(argument) for argument in arguments])


def weights(run: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(run / "model.pt", weights_only=True)["model"]
    return found


def test_train_measure_and_train_again(
    experiment: Path, train: Program, measure: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    run = experiment.parent / "run"
    assert train(experiment) == 0
    assert [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()] == [2, 4]
    assert measure(experiment) == 0
    assert "plates/mIoU" in capsys.readouterr().out
    results = json.loads((run / "results.json").read_text())
    assert results["seconds/train"] > 0
    assert results["seconds/evaluate"] > 0
    assert 0 <= results["plates/mIoU"] <= 100
    assert "pairs/retrieval_IR@1" in results
    protocol = json.loads((run / "protocol.json").read_text())
    assert protocol["plates"]["segmentation"]["images"] == 5
    assert protocol["plates"]["segmentation"]["templates"] == "none"
    assert "class_weight" not in protocol["plates"]["segmentation"]
    assert protocol["pairs"]["dataset"] == "texts"
    assert load(ExperimentConfig, run / "config.yaml") == load(ExperimentConfig, experiment)

    before = (run / "model.pt").stat().st_mtime_ns
    assert train(experiment) == 0
    assert "is trained already" in capsys.readouterr().out
    assert (run / "model.pt").stat().st_mtime_ns == before


def test_resumed_equals_undisturbed(experiment: Path, train: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = experiment.parent
    assert train(experiment, f"output={folder / 'whole'}", "trainer.steps=6") == 0
    original = Trainer._after_step

    def power_cut(self: Trainer, *rest: Any) -> None:
        original(self, *rest)
        if self.step == 3:
            raise OSError(28, "power cut")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_after_step", power_cut)
        assert train(experiment, "trainer.steps=6") == 2
    assert not (folder / "run" / "model.pt").exists()
    assert train(experiment, "trainer.steps=6") == 0
    whole, resumed = weights(folder / "whole"), weights(folder / "run")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_run_that_began_from_weights_never_begins_again_where_its_states_are_damaged(
    experiment: Path, train: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    run, start = experiment.parent / "run", experiment.parent / "start.pt"
    assert train(experiment, "trainer.steps=1") == 0
    (run / "model.pt").rename(start)
    shutil.rmtree(run)
    assert train(experiment, f"weights={start}", "trainer.steps=1") == 0
    (run / "model.pt").unlink()
    (state,) = (run / "checkpoints").glob("step_*")
    state.write_bytes(state.read_bytes()[:5000])
    capsys.readouterr()
    assert train(experiment, f"weights={start}", "trainer.steps=1") == 2
    assert "none of the 1 training states there can be used" in capsys.readouterr().err
    assert not (run / "model.pt").exists() and state.exists()


def test_files_that_were_exchanged_are_told_when_a_run_goes_on(
    experiment: Path, train: Program, caplog: pytest.LogCaptureFixture
) -> None:
    assert train(experiment, "trainer.steps=1") == 0
    for folder in ("images", "labels"):
        (experiment.parent / "data" / folder / "4.png").unlink()
    assert train(experiment, "trainer.steps=2") == 0
    assert "data set 'plates': its files are not those that the run began with" in caplog.text
    assert "going on from step 1 with them" in caplog.text


def test_fresh_moves_the_old_run_aside(experiment: Path, train: Program) -> None:
    assert train(experiment, "--fresh") == 0
    assert not (experiment.parent / "run.old1").exists(), "there was none"
    old = (experiment.parent / "run" / "model.pt").read_bytes()
    assert train(experiment, "seed=1", "--fresh") == 0
    assert (experiment.parent / "run.old1" / "model.pt").read_bytes() == old
    assert load(ExperimentConfig, experiment.parent / "run" / "config.yaml").seed == 1


def test_longer_training_goes_on(experiment: Path, train: Program, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(experiment) == 0
    assert train(experiment, "trainer.steps=6") == 0
    assert "going on from step 4 of 6" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (["trainer.learning_rate=1"], r"holds a run with other settings \(trainer.learning_rate is 0.001 there and 1.0 here\)"),
        (["model.decoder.queries=7"], "a checkpoint of another architecture .model.decoder.queries is 5 there and 7 here"),
        (["data.train.0.batch_size=1"], "data.train.0.batch_size is 2 there and 1 here"),
    ],
)
def test_another_experiment_does_not_go_on(
    experiment: Path, train: Program, capsys: pytest.CaptureFixture[str], changes: list[str], complaint: str
) -> None:
    assert train(experiment, "trainer.steps=1") == 0
    capsys.readouterr()
    assert train(experiment, "trainer.steps=1", *changes) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(complaint, said)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["trainer.stps=1"], "unknown key 'trainer.stps'; did you mean 'steps'"),
        (["data.root=/nowhere"], "data root /nowhere does not exist"),
        (["trainer.lr_multipliers={bakbone: 0.1}"], "did you mean 'backbone'"),
        (["trainer.learning_rate=1e30", "trainer.warmup_steps=0"], "step 2: the loss is nan on pictures plates/"),
        (["data.train=[]"], "data.train: an experiment that trains needs at least one stream"),
    ],
)
def test_faults_are_one_sentence(
    experiment: Path, train: Program, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    assert train(experiment, *arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert complaint in said


def test_debug_shows_where_an_error_came_from(experiment: Path, train: Program) -> None:
    with pytest.raises(ConfigError, match="unknown key"):
        train(experiment, "--debug", "trainer.stps=1")


def test_a_truncated_picture_is_named_and_counted(
    experiment: Path, train: Program, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    image = experiment.parent / "data" / "images" / "3.png"
    image.write_bytes(image.read_bytes()[:60])
    assert train(experiment) == 0
    assert str(image) in caplog.text
    assert json.loads((experiment.parent / "run" / "log.jsonl").read_text().splitlines()[-1])["bad_samples"] >= 1
    assert train(experiment, "data.max_bad_samples=0", "--fresh") == 2
    assert str(image) in capsys.readouterr().err


def test_measuring_needs_the_right_network(
    experiment: Path, train: Program, measure: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure(experiment) == 2
    assert "model.pt: no trained network there" in capsys.readouterr().err
    assert train(experiment, "trainer.steps=1") == 0
    file = experiment.parent / "run" / "model.pt"
    capsys.readouterr()
    assert measure(experiment, "model.decoder.queries=7", "--checkpoint", file) == 2
    assert "model.pt: checkpoint of another architecture" in capsys.readouterr().err
    assert measure(experiment, "--checkpoint", file, f"output={experiment.parent / 'other'}") == 0
    assert (experiment.parent / "other" / "results.json").exists()


def test_results_of_one_name_are_refused(
    experiment: Path, train: Program, measure: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(experiment, "trainer.steps=1") == 0
    content = yaml.safe_load(experiment.read_text())
    content["data"]["evaluate"].append(content["data"]["evaluate"][0])
    experiment.write_text(yaml.safe_dump(content))
    capsys.readouterr()
    assert measure(experiment) == 2
    assert "'plates' is measured on segmentation twice; give one of the entries a label" in capsys.readouterr().err


def test_two_processes_train_and_measure_as_one(experiment: Path, measure: Program, root: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for program in ("train.py", "eval.py"):
        done = subprocess.run([*launcher, root / program, experiment], cwd=root, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    run = experiment.parent / "run"
    assert [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()] == [2, 4]
    together = json.loads((run / "results.json").read_text())
    assert measure(experiment) == 0
    alone = json.loads((run / "results.json").read_text())
    scores = [name for name in alone if not name.startswith("seconds")]
    assert len(scores) > 5
    assert [together[name] for name in scores] == pytest.approx([alone[name] for name in scores], nan_ok=True)


@pytest.mark.parametrize("launcher", ["torchrun", "mpirun"])
def test_launched_processes_learn_what_one_learns(experiment: Path, train: Program, root: Path, launcher: str) -> None:
    beside = Path(sys.executable).parent
    options = {
        "torchrun": ["--standalone", "--nproc-per-node", "2"],
        "mpirun": ["--allow-run-as-root", "--oversubscribe", "-n", "2"],
    }
    command = [beside / launcher, *options[launcher], *([sys.executable] if launcher == "mpirun" else [])]
    if not (beside / launcher).exists():
        pytest.skip(f"{beside / launcher} is not installed")
    # A norm over two numbers, as of one pixel of a flat picture, makes rounding errors large: take larger and livelier ones.
    rng = np.random.default_rng(0)
    for image in (experiment.parent / "data" / "images").iterdir():
        Image.fromarray(rng.integers(0, 256, (24, 30, 3), dtype=np.uint8)).save(image)
    settings = ["trainer.steps=20", "trainer.log_every=1", "trainer.save_every=20", "trainer.learning_rate=1e-4"]
    settings += [f"data.train.{stream}.transform.size=64" for stream in (0, 1)]
    assert train(experiment, *settings, f"output={experiment.parent / 'alone'}") == 0
    done = subprocess.run(
        [*map(str, command), str(root / "train.py"), str(experiment), *settings],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    logs = [(experiment.parent / run / "log.jsonl").read_text().splitlines() for run in ("run", "alone")]
    ours, theirs = ([json.loads(line) for line in log] for log in logs)
    assert [line["loss"] for line in ours] == pytest.approx([line["loss"] for line in theirs], rel=1e-5)
    assert len(ours) == 20
    print(f"largest relative difference {max(abs(a['loss'] / b['loss'] - 1) for a, b in zip(ours, theirs, strict=True)):.1e}")


def test_first_difference() -> None:
    assert first_difference({"a": {"b": [1, 2]}}, {"a": {"b": [1, 2]}}) is None
    assert first_difference({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}) == "a.b.1"
    assert first_difference({"a": 1}, {"a": 1, "c": 2}) == "c"
    assert first_difference({"a": [1]}, {"a": [1, 2]}) == "a"


def test_errors_as_sentences() -> None:
    assert commands.sentence(FileNotFoundError(2, "No such file or directory", "x.txt")) == "x.txt: No such file or directory"
    assert commands.sentence(OSError(28, "model.pt could not be written")) == "model.pt could not be written"
    assert "lower batch_size" in commands.sentence(torch.OutOfMemoryError("CUDA out of memory.\nTried"))
    assert commands.sentence(ValueError("two\nlines")) == "two lines"


def test_the_table_is_aligned() -> None:
    assert table({"a/x": 1.0, "a/longer": 22.5, "b/x": 100.0}).splitlines() == [
        "a/x          1.00",
        "a/longer    22.50",
        "",
        "b/x        100.00",
    ]


def test_lora_is_resumed_and_ends_as_an_ordinary_network(experiment: Path, train: Program, measure: Program) -> None:
    settings = ["trainer.lora={rank: 2}", "trainer.freeze=[language]", "trainer.schedule={name: constant}"]
    whole, parts = experiment.parent / "whole", experiment.parent / "parts"
    assert train(experiment, f"output={whole}", *settings) == 0
    assert train(experiment, f"output={parts}", "trainer.steps=2", *settings) == 0
    assert train(experiment, f"output={parts}", *settings) == 0
    trained = weights(whole)
    assert all(torch.equal(value, trained[name]) for name, value in weights(parts).items())
    checkpointing.seed_everything(0)
    untrained = XDecoder(load(ExperimentConfig, experiment).model).state_dict()
    assert trained.keys() == untrained.keys()
    changed = {name for name in trained if not torch.equal(trained[name], untrained[name])}
    projections = ("cross_attention.in_proj", "cross_attention.out_proj", "self_attention.in_proj", "self_attention.out_proj")
    assert changed == {
        *(f"decoder.layers.0.{name}.weight" for name in projections),
        *(f"pixel_decoder.encoder.0.attention.{name}.weight" for name in ("in_proj", "out_proj")),
    }
    assert measure(experiment, f"output={whole}") == 0


def test_a_profile_leaves_a_trace(experiment: Path, train: Program) -> None:
    assert train(experiment, "--profile", "1") == 0
    (trace,) = (experiment.parent / "run").glob("trace_*.json")
    assert any("convolution" in event.get("name", "") for event in json.loads(trace.read_text())["traceEvents"])


def test_evaluations_during_training_by_name(experiment: Path, train: Program, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(experiment, "trainer.evaluate_every={pairs: 2}") == 0
    (line,) = (experiment.parent / "run" / "evaluations.jsonl").read_text().splitlines()
    found = json.loads(line)
    assert found["step"] == 2
    assert {name.split("/")[0] for name in found["results"]} == {"pairs"}
    assert train(experiment, "trainer.evaluate_every={pears: 2}", "--fresh") == 2
    assert "trainer.evaluate_every: data.evaluate has no entry 'pears'; did you mean 'pairs'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train", "eval", "xdecoder.cli"])
def test_without_arguments_a_program_says_what_it_takes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert importlib.import_module(name).main([]) == 2
    told = capsys.readouterr()
    assert "usage: " in told.err and "show this help" in told.err and "required" not in told.err and not told.out
