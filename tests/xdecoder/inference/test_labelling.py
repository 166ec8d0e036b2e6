"""Masks of a COCO JSON get names; what is wrong in it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.tiny import tiny_model
from xdecoder import checkpoint, cli, rle
from xdecoder.inference.labelling import mask_of
from xdecoder.inference.predictor import Predictor


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # COCO's tool and the newest NumPy
def test_masks_are_read_as_cocos_tool_reads_them() -> None:
    official = pytest.importorskip("pycocotools.mask", reason="compares with COCO's own tool")
    for seed in range(20):
        mask = np.random.default_rng(seed).random((7, 9)) < (0.5 if seed else 0)
        told = rle.describe(mask)["segmentation"]
        assert (mask_of(told, 7, 9) == mask).all() and (official.decode(told) == mask).all()
        assert (mask_of({"size": [7, 9], "counts": rle.runs(mask)}, 7, 9) == mask).all()
    box = [[2, 1, 7, 1, 7, 5, 2, 5], [0, 0, 1, 1]]
    assert (mask_of(box, 7, 9) == official.decode(official.merge(official.frPyObjects(box[:1], 7, 9)))).all()


@pytest.mark.parametrize(
    ("outline", "sentence"),
    [
        ({"size": [7, 8], "counts": [56]}, r"its RLE's size \[7, 8\] is not the picture's \[7, 9\]"),
        ({"size": [7, 9], "counts": [60]}, "make 60 pixels"),
        ({"size": [7, 9]}, "no whole numbers"),
        ([[1, 2, 3]], "no list of numbers, x and y"),
        ([[0, 0, float("nan"), 1, 1, 1]], "no number, or far outside"),
        (7, "neither run lengths nor a list of polygons, but 7"),
    ],
)
def test_what_is_no_mask_is_refused(outline: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        mask_of(outline, 7, 9)


def test_the_file_comes_back_with_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_model()
    checkpoint.save(model, tmp_path / "model.pt")
    rng, rows, images = np.random.default_rng(0), [], []
    for number in (1, 2):
        image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png"})
        for top in (0, 20, 40):
            mask = np.zeros((40, 60), bool)
            mask[top : top + 20, 5:30] = True
            rows.append({"id": len(rows), "image_id": number, "stability_score": 0.5, **rle.describe(mask)})
    content = {"info": {"by": "sam"}, "images": images, "annotations": rows}
    (tmp_path / "sam.json").write_text(json.dumps(content))
    line = ["label", str(tmp_path / "sam.json"), "--images", str(tmp_path), "--checkpoint", str(tmp_path / "model.pt")]
    line += ["--device", "cpu", "--out", str(tmp_path / "out.json"), "--names", "cat", "dog"]
    assert cli.main(line) == 0
    labelled = json.loads((tmp_path / "out.json").read_text())
    assert labelled["info"] == content["info"] and [c["name"] for c in labelled["categories"]] == ["cat", "dog"]
    picture = Predictor(model).encode(tmp_path / "1.png")
    for before, after in zip(rows, labelled["annotations"], strict=True):
        assert after | before == after, "nothing that was there is lost"
        assert after["category_id"] in ((1, 2) if before["area"] else (0,))
    said = picture.label(mask_of(rows[1]["segmentation"], 40, 60), ["cat", "dog"])
    assert labelled["annotations"][1]["score"] == pytest.approx(said.scores[0], abs=1e-3)
    content["annotations"][0]["image_id"] = 9
    (tmp_path / "sam.json").write_text(json.dumps(content))
    assert cli.main(line) == 2
    assert "an annotation is of picture 9, which 'images' does not list" in capsys.readouterr().err
