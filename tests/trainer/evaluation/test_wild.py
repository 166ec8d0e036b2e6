"""Segmentation in the Wild, on two invented sets: scores against pycocotools, one score over sets, and the server's zip."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import eval as script
from datasets.catalog.wild import NAMES
from tests.tiny import tiny_config
from trainer.evaluation import wild
from xdecoder import checkpoint
from xdecoder.config import parse
from xdecoder.files import read_json, write_json
from xdecoder.model import XDecoder, XDecoderConfig

SIDE = 64


def invent(root: Path, name: str, classes: int, seed: int) -> None:
    """Five pictures, ids in texts, the last without annotations; category ids from 0."""
    rng, home = np.random.default_rng(seed), root / "seginw" / name / "valid"
    home.mkdir(parents=True)
    images, annotations = [], []
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(home / f"{i}.jpg")
        images.append({"id": str(i), "file_name": f"{i}.jpg", "height": SIDE, "width": SIDE})
        for _ in range(2 if i < 4 else 0):
            x, y = (int(v) for v in rng.integers(0, 10, 2))
            mask = np.zeros((SIDE, SIDE), np.uint8)
            mask[y : y + 54, x : x + 54] = 1
            code = rle.encode(np.asfortranarray(mask))
            shape = {"segmentation": {"size": [SIDE, SIDE], "counts": code["counts"].decode()}, "area": 54 * 54}
            key, category = len(annotations), len(annotations) % classes
            annotations.append(
                {"id": key, "image_id": str(i), "category_id": category, "iscrowd": 0, "bbox": [x, y, 54, 54], **shape}
            )
    categories = [{"id": i, "name": f"thing {i}"} for i in range(classes)]
    write_json(
        home / "_annotations_min1cat.coco.json", {"images": images, "annotations": annotations, "categories": categories}
    )


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wild")
    invent(folder, "Elephants", 1, 0)
    invent(folder, "Bottles", 3, 1)
    config = tiny_config()
    write_json(
        folder / "experiment.yaml",
        {
            "model": config.model_dump(mode="json"),
            "data": {"root": str(folder)},
            "trainer": {"steps": 1, "learning_rate": 1e-3},
            "output": str(folder / "run"),
        },
    )

    torch.manual_seed(0)
    checkpoint.save(XDecoder(parse(XDecoderConfig, config.model_dump())), folder / "run/model.pt")
    return folder / "experiment.yaml"


def official(annotations: Path, predictions: Path) -> float:
    """AP by pycocotools, which wants ids that are numbers."""
    content, rows = read_json(annotations), read_json(predictions)
    for row in content["images"]:
        row["id"] = int(row["id"])
    for row in (*content["annotations"], *rows):
        row["image_id"] = int(row["image_id"])
    for number, row in enumerate(content["annotations"], start=1):
        row["id"] = number  # pycocotools takes an annotation 0 for none
    truth = COCO()
    truth.dataset = content
    truth.createIndex()
    measured = COCOeval(truth, truth.loadRes(rows), "segm")
    measured.evaluate()
    measured.accumulate()
    measured.summarize()
    return 100 * float(measured.stats[0])


def test_two_sets_are_scored_as_pycocotools_does_and_come_back_from_the_zip(experiment: Path, capsys: Any) -> None:
    names = "seginw_Elephants_val,seginw_Bottles_val"
    assert script.main([str(experiment), "--datasets", names, "--save-predictions", "--images", "0"]) == 0
    folder = experiment.parent
    predictions = folder / "run/predictions"
    assert f"{predictions / 'seginw.zip'}: predictions in the form" in capsys.readouterr().out
    results = read_json(folder / "run/results.json")
    for name in ("Elephants", "Bottles"):
        annotations = folder / "seginw" / name / "valid/_annotations_min1cat.coco.json"
        expected = official(annotations, predictions / f"seginw_{name}_val.json")
        assert expected > 0 and results[f"seginw_{name}_val/AP"] == pytest.approx(expected, abs=1e-6)
    rows = read_json(predictions / "seginw_Bottles_val.json")
    assert {row["category_id"] for row in rows} == {0, 1, 2} and all(
        isinstance(row["segmentation"]["counts"], str) for row in rows
    )
    (mean,) = [value for key, value in results.items() if key.endswith("/AP_mean")]
    assert mean == pytest.approx((results["seginw_Elephants_val/AP"] + results["seginw_Bottles_val/AP"]) / 2)
    assert "wild_2_of_25/AP_mean" in results and "seginw/AP_mean" not in results
    zipped = folder / "upload.zip"
    zipped.write_bytes((predictions / "seginw.zip").read_bytes())
    line = [str(experiment), f"output={folder / 'scored'}", "--datasets", names, "--predictions", str(zipped)]
    assert script.main(["score", *line]) == 0
    again = read_json(folder / "scored/results.json")
    assert {key: again[key] for key in again if "AP" in key} == {key: results[key] for key in again if "AP" in key}


def test_the_name_is_for_all_25_sets() -> None:
    scores = {f"seginw_{name}_val/AP": float(i == 0) * 50 for i, name in enumerate(NAMES)}
    assert wild.aggregate(scores) == {"seginw/AP_mean": 2.0, "seginw/AP_median": 0.0}
    some = {"seginw_Cows_val/AP": 10.0, "seginw_Rail_val/AP": math.nan, "seginw_Hand_val/AP": 80.0, "coco/AP": 99.0}
    assert wild.aggregate(some) == {"wild_3_of_25/AP_mean": 30.0, "wild_3_of_25/AP_median": 10.0}
    assert wild.aggregate({"seginw_Cows_val/AP": 10.0}) == {}


def test_the_same_predictions_make_the_same_zip(tmp_path: Path) -> None:
    write_json(tmp_path / "seginw_Cows_val.json", [])
    write_json(tmp_path / "instances.json", [])
    first = wild.pack(tmp_path, {"ade20k_panoptic_val/PQ": 15.5})
    assert first is not None
    content = first.read_bytes()
    assert wild.pack(tmp_path, {"ade20k_panoptic_val/PQ": 15.5}) == first and first.read_bytes() == content
    with zipfile.ZipFile(first) as archive:
        assert archive.namelist() == ["seginw_Cows_val.json", "ade.json"]
        assert json.loads(archive.read("ade.json")) == {"ADE150-PQ": "15.50"}
    (tmp_path / "seginw_Cows_val.json").unlink()
    assert wild.pack(tmp_path, {}) is None


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("notes.txt", "'notes.txt' is no JSON; the zip holds seginw_<set>_val.json files and ade.json"),
        (
            "seginw_Unicorns_val.json",
            "'seginw_Unicorns_val.json' is about none of the 25 sets, such as seginw_Elephants_val.json",
        ),
        ("../../seginw_evil_val.json", "is about none of the 25 sets"),
    ],
)
def test_what_a_zip_may_not_hold(tmp_path: Path, entry: str, sentence: str) -> None:
    with zipfile.ZipFile(tmp_path / "upload.zip", "w") as archive:
        archive.writestr(entry, "[]")
    with pytest.raises(ValueError, match=sentence), wild.unpacked(tmp_path / "upload.zip"):
        pass


def test_folders_in_a_zip_do_not_matter(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "upload.zip", "w") as archive:
        archive.writestr("mine/seginw_Cows_val.json", "[1]")
        archive.writestr("mine/ade.json", "{}")
    with wild.unpacked(tmp_path / "upload.zip") as folder:
        assert [path.name for path in folder.iterdir()] == ["seginw_Cows_val.json"]
    assert not folder.exists()
    (tmp_path / "upload.zip").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(ValueError, match=r"upload\.zip: not a readable zip"), wild.unpacked(tmp_path / "upload.zip"):
        pass
