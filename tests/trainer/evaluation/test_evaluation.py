"""eval.py on a small real network and a set with everything, made here: resumed, scored again, shared by processes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import eval as script
from datasets.readers.coco import CocoSpec
from datasets.spec import Protocol
from tests.tiny import tiny_config, tiny_model
from trainer.evaluation import entry_point
from trainer.evaluation.evaluation import settings_for
from trainer.evaluation.suites import GROUPS, choose, entries_of, paper_table
from trainer.experiment import ExperimentConfig
from xdecoder import checkpoint, postprocessing
from xdecoder.config import load, parse
from xdecoder.model import XDecoder
from xdecoder.tasks import TasksConfig

pytestmark = pytest.mark.slow

IMAGES = 7
CATEGORIES = [{"id": 3, "name": "cat", "isthing": 1}, {"id": 9, "name": "grass", "isthing": 0}]


def write_data(root: Path) -> None:
    """A square thing on stuff in each picture, as COCO's panoptic, captions and phrases JSONs; sizes differ."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    (root / "panoptic").mkdir()
    images, panoptic, captions, phrases = [], [], [], []
    for id in range(1, IMAGES + 1):
        height, width = int(rng.integers(40, 70)), int(rng.integers(40, 70))
        y, x, side = (int(value) for value in rng.integers(5, 20, 3))
        ids = np.full((height, width), 2, np.uint8)
        ids[:3] = 0
        ids[y : y + side, x : x + side] = 1
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(root / "images" / f"{id}.png")
        Image.fromarray(np.stack([ids, ids * 0, ids * 0], -1)).save(root / "panoptic" / f"{id}.png")
        images.append({"id": id, "file_name": f"{id}.png", "height": height, "width": width})
        segments = [{"id": number, "category_id": CATEGORIES[number - 1]["id"]} for number in (1, 2)]
        panoptic.append({"image_id": id, "file_name": f"{id}.png", "segments_info": segments})
        captions += [{"image_id": id, "caption": f"{word} picture {id}"} for word in ("a", "the")]
        corners = [x, y, x + side, y, x + side, y + side, x, y + side]
        sentences = [{"sent": "the square"}, {"sent": "it"}]
        phrases.append({"id": id, "image_id": id, "segmentation": [corners], "sentences": sentences})
    for name, rows in (("panoptic", panoptic), ("captions", captions), ("phrases", phrases)):
        (root / f"{name}.json").write_text(json.dumps({"images": images, "annotations": rows, "categories": CATEGORIES}))
    scenes = [{"image_id": id, "objects": [{"shape": "star", "colour": "red"}]} for id in range(1, IMAGES + 1)]
    (root / "scenes.json").write_text(json.dumps({"images": scenes}))  # makes it a generated set: no Java is asked


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    write_data(tmp_path / "data")
    everything = {
        "name": "squares",
        "reader": "coco",
        "images": "images",
        "panoptic": "panoptic.json",
        "panoptic_images": "panoptic",
        "captions": "captions.json",
        "phrases": "phrases.json",
        "scenes": "scenes.json",
        "evaluators": ["panoptic", "instance", "semantic", "referring", "captioning", "retrieval"],
    }
    settings = {
        "model": tiny_config().model_dump(mode="json"),
        "tasks": {
            "segmentation": {"templates": "none", "postprocessing": {"object_threshold": 0.0}},
            "captioning": {"max_length": 3},
        },
        "data": {
            "root": str(tmp_path / "data"),
            "evaluate": [
                {
                    "dataset": everything,
                    "tasks": ["segmentation", "referring"],
                    "batch_size": 2,
                    "transform": {"name": "shortest_edge", "size": 48, "max_size": 80},
                },
                {
                    "dataset": everything,
                    "tasks": ["captioning", "retrieval"],
                    "batch_size": 3,
                    "transform": {"name": "stretch", "size": 48},
                },
            ],
        },
        "trainer": {"steps": 1, "learning_rate": 1e-3, "device": "cpu"},
        "output": str(tmp_path / "run"),
    }
    (tmp_path / "squares.yaml").write_text(yaml.safe_dump(settings))
    checkpoint.save(tiny_model(), tmp_path / "run" / "model.pt")
    return tmp_path / "squares.yaml"


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """As many as a process of torchrun has: sums depend on it in their last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def measure(experiment: Path, *arguments: object) -> int:
    return script.main([str(experiment), "--images", "0", *map(str, arguments)])


def scores(folder: Path) -> dict[str, float]:
    found = json.loads((folder / "results.json").read_text())
    return {name: value for name, value in found.items() if not name.startswith("seconds/")}


@pytest.fixture
def undisturbed(experiment: Path, _one_thread: None) -> dict[str, float]:
    assert measure(experiment, f"output={experiment.parent / 'once'}", "--checkpoint", experiment.parent / "run/model.pt") == 0
    found = scores(experiment.parent / "once")
    assert {"squares/PQ", "squares/AP", "squares/mIoU", "squares/referring_cIoU", "squares/caption_CIDEr"} < set(found)
    assert 0 < found["squares/mIoU"] < 100 and 0 < found["squares/referring_mIoU"] < 100
    return found


@pytest.mark.parametrize(("kind", "score"), [("instance", "AP"), ("panoptic", "PQ"), ("semantic", "mIoU")])
def test_what_nobody_reads_is_not_made(
    experiment: Path, undisturbed: dict[str, float], kind: str, score: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unread(*_: object) -> None:
        raise AssertionError("made for nobody")

    for name, form in {"instance": "instances", "panoptic": "panoptic", "semantic": "semantic_map"}.items():
        if name != kind:
            monkeypatch.setattr(postprocessing, form, unread)
    settings = yaml.safe_load(experiment.read_text())
    entry = settings["data"]["evaluate"][0]
    entry["tasks"], entry["dataset"]["evaluators"] = ["segmentation"], [kind]
    settings["data"]["evaluate"] = [entry]
    experiment.write_text(yaml.safe_dump(settings))
    assert measure(experiment, f"output={experiment.parent / 'run'}") == 0
    assert scores(experiment.parent / "run")[f"squares/{score}"] == undisturbed[f"squares/{score}"]


def test_one_two_and_three_processes_write_identical_scores(
    experiment: Path, undisturbed: dict[str, float], root: Path
) -> None:
    def details(folder: Path) -> Any:
        datasets = json.loads((folder / "evaluation.json").read_text())["datasets"]
        return {name: {**one, "seconds": None} for name, one in datasets.items()}

    for processes in (2, 3):
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        line = [*launcher, root / "eval.py", experiment, "--images", "0", "--save-predictions"]
        done = subprocess.run(
            line, cwd=root, capture_output=True, text=True, timeout=400, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 0, done.stderr
        assert scores(experiment.parent / "run") == undisturbed
        assert details(experiment.parent / "run") == details(experiment.parent / "once")
    assert json.loads((experiment.parent / "run/evaluation.json").read_text())["processes"] == 3
    captions = json.loads((experiment.parent / "run/predictions/squares/captions.json").read_text())
    assert [row["image_id"] for row in captions] == list(range(1, IMAGES + 1)), "each picture once"


@pytest.mark.parametrize("batches", [2, 5])
def test_an_interrupted_evaluation_goes_on(
    experiment: Path, undisturbed: dict[str, float], monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    """Interrupted in the middle of the first and of the second entry; nothing is measured twice."""
    predict, asked = XDecoder.predict, []

    def stopping(model: Any, tasks: Any, batch: Any) -> Any:
        asked.append([sample.id for sample in batch.samples])
        if len(asked) == batches:
            os.kill(os.getpid(), signal.SIGTERM)
        return predict(model, tasks, batch)

    monkeypatch.setattr(XDecoder, "predict", stopping)
    assert measure(experiment, "--save-predictions") == 130
    assert len(asked) == batches and not (experiment.parent / "run/results.json").exists()
    (part,) = list((experiment.parent / "run/partial").glob("squares-*/*.pt"))[-1:]
    assert measure(experiment, "--save-predictions") == 0
    assert [id for batch in asked for id in batch] == [*range(1, 8), *range(1, 8)]
    assert scores(experiment.parent / "run") == undisturbed
    assert not part.exists()
    assert (
        script.main(
            [
                "score",
                str(experiment),
                f"output={experiment.parent / 'again'}",
                "--predictions",
                str(experiment.parent / "run/predictions"),
            ]
        )
        == 0
    )
    assert scores(experiment.parent / "again") == undisturbed


def test_a_crash_keeps_what_was_found_and_a_broken_part_is_measured_again(
    experiment: Path, undisturbed: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, asked = XDecoder.predict, []

    def failing(model: Any, tasks: Any, batch: Any) -> Any:
        asked.append(len(batch))
        if len(asked) == 4:
            raise ValueError("picture 7: a made-up fault")
        return predict(model, tasks, batch)

    monkeypatch.setattr(XDecoder, "predict", failing)
    monkeypatch.setattr("trainer.evaluation.resume.SECONDS", 0.0)
    assert measure(experiment) == 2
    parts = sorted((experiment.parent / "run/partial").glob("squares-*/*.pt"))
    assert parts
    parts[-1].write_bytes(b"half a file")
    assert measure(experiment) == 0
    assert scores(experiment.parent / "run") == undisturbed


def test_other_settings_and_fresh_begin_anew(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predict, asked = XDecoder.predict, []

    def stopping(model: Any, tasks: Any, batch: Any) -> Any:
        asked.append(len(batch))
        if len(asked) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return predict(model, tasks, batch)

    monkeypatch.setattr(XDecoder, "predict", stopping)
    for arguments in ([], ["tasks.segmentation.postprocessing.object_threshold=0.5"], ["--fresh"]):
        asked.clear()
        assert measure(experiment, *arguments) == 130
        assert len(asked) == 2


def test_the_record_says_how_scores_came_about(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([str(experiment), "--limit", "3", "--images", "1"]) == 0
    run = experiment.parent / "run"
    record = json.loads((run / "evaluation.json").read_text())
    assert record["source"]["sha256"] == hashlib.sha256((run / "model.pt").read_bytes()).hexdigest()
    assert record["versions"]["torch"] == torch.__version__ and record["results"]["squares/mIoU"] == scores(run)["squares/mIoU"]
    one = record["datasets"]["squares"]
    assert one["scores"]["mIoU"] == scores(run)["squares/mIoU"]
    assert one["protocol"]["segmentation"]["images"] == 3 and one["protocol"]["segmentation"]["templates"] == "none"
    assert set(one["per_class"]["cat"]) >= {"PQ", "AP", "IoU"} and set(one["per_class"]["grass"]) >= {"PQ", "IoU"}
    assert [id for id, _ in one["per_image"]["referring"]] == [1, 2, 3]
    assert any("captions cut into words by our rules" in note for note in one["notes"])
    page = (run / "evaluation.html").read_text()
    ranked = sorted(one["per_image"]["referring"], key=lambda row: row[1])
    assert f"{ranked[0][0]}: {ranked[0][1]:.1f}" in page and f"{ranked[-1][0]}: {ranked[-1][1]:.1f}" in page
    assert "squares, worst of 3" in page and "squares, best of 3" in page
    assert "evaluation.html" in capsys.readouterr().out


def test_tables_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ade = "ade20k_panoptic_val"
    first = {f"{ade}/PQ": 18.84, f"{ade}/AP": 9.8, f"{ade}/mIoU": 25.0, "seconds/train": 3}
    second = {"coco_2017_val_panoptic/PQ": 50.8, "ade20k_panoptic_val/PQ": None, "seginw_Cows_val/AP": 1.0, "mine/mIoU": 3.0}
    (tmp_path / "a").mkdir()
    (tmp_path / "a/results.json").write_text(json.dumps(first))
    (tmp_path / "b.json").write_text(json.dumps({"results": second | {"seginw/AP_mean": 32.1}}))
    assert script.main(["table", str(tmp_path / "a/results.json"), str(tmp_path / "b.json")]) == 0
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["", "COCO PQ", "ADE-150 PQ/AP/mIoU", "ADE-150 PQ", "SegInW AP", "mine mIoU"]
    assert lines[2:] == [["a", "–", "18.8/9.8/25.0", "–", "–", "–"], ["b", "50.8", "–", "–", "32.1", "3.0"]]
    (tmp_path / "c.json").write_text("[]")
    assert script.main(["table", str(tmp_path / "c.json")]) == 2
    assert "c.json: expected the results.json or the evaluation.json that eval.py writes" in capsys.readouterr().err
    assert paper_table([tmp_path / "a"]).count("\n") == 2


def test_help_lists_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for line, expected in {
        "--help": ["measure", "score", "table", "evaluate --conf_files"],
        "score --help": ["--predictions", "config", "key.sub=value"],
        "table --help": ["results.json"],
    }.items():
        with pytest.raises(SystemExit, match="0"):
            script.main(line.split())
        said = capsys.readouterr().out
        assert all(text in said for text in expected)
    with pytest.raises(SystemExit, match="2"):
        script.main(["table"])
    assert "the following arguments are required" in capsys.readouterr().err
    assert script.main([]) == 2 and "score" in capsys.readouterr().err


def test_sets_are_chosen_by_name(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = load(ExperimentConfig, experiment)
    chosen = choose(config, ["camvid_test", "squares"], limit=5).data.evaluate
    assert [(entry.prefix, entry.tasks, entry.limit) for entry in chosen] == [
        ("camvid_test", ("segmentation",), 5),
        ("squares", ("segmentation", "referring"), 5),
        ("squares", ("captioning", "retrieval"), 5),
    ]
    assert len(choose(config, ["seginw"]).data.evaluate) == len(GROUPS["seginw"]) == 25
    assert choose(config).data.evaluate == config.data.evaluate
    assert measure(experiment, "--datasets", "camvid_tset") == 2
    assert "did you mean 'camvid_test'?" in capsys.readouterr().err
    assert script.main(["score", str(experiment)]) == 2
    assert "run/predictions: no predictions there; measure with --save-predictions" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        measure(experiment, "--limit", "0")


def test_a_set_with_masks_and_texts_is_measured_on_whole_pictures_and_on_squares() -> None:
    protocol = parse(Protocol, {"transform": {"name": "shortest_edge", "size": 640}})
    spec = CocoSpec(
        name="both",
        images="i",
        panoptic="p",
        panoptic_images="p",
        captions="c",
        evaluators=("panoptic", "retrieval"),
        measured_with=protocol,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(script.choose.__globals__["CATALOG"], "both", spec)
        masks, texts = entries_of(spec)
    assert (masks.tasks, masks.transform.size, masks.batch_size) == (("segmentation",), 640, 1)
    assert (texts.tasks, texts.transform.name, texts.transform.size) == (("retrieval",), "stretch", 224)


def test_the_set_s_protocol_holds_where_the_experiment_says_nothing() -> None:
    spec = CocoSpec(
        name="x",
        images="i",
        captions="c",
        measured_with=parse(Protocol, {"object_threshold": 0.4, "templates": "none", "backbone_view": False}),
    )
    silent = settings_for(spec, TasksConfig())
    assert silent.segmentation.postprocessing.object_threshold == 0.4 and silent.segmentation.templates == "none"
    assert not silent.retrieval.backbone_view
    told = parse(TasksConfig, {"segmentation": {"templates": "published", "postprocessing": {"object_threshold": 0.8}}})
    kept = settings_for(spec, told)
    assert kept.segmentation.postprocessing.object_threshold == 0.8 and kept.segmentation.templates == "published"
    assert kept.segmentation.class_weight == told.segmentation.class_weight


def test_names_of_sets_are_split_at_commas() -> None:
    assert entry_point._names(" a, b,") == ("a", "b")
