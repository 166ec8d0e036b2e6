"""Masks of a COCO JSON get names; what is wrong in it is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny import tiny_model
from xdecoder import checkpoint, cli, rle
from xdecoder.inference.predictor import Predictor


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
    said = picture.label(rle.mask(rows[1]["segmentation"]["counts"], 40, 60), ["cat", "dog"])
    assert labelled["annotations"][1]["score"] == pytest.approx(said.scores[0], abs=1e-3)
    for wrong, sentence in (
        (7, "but int"),
        ([[1, 2, 3]], "a polygon of 3 numbers"),
        ({"size": [7, 8], "counts": [56]}, "size (7, 8)"),
    ):
        (tmp_path / "sam.json").write_text(json.dumps(content | {"annotations": [rows[0] | {"segmentation": wrong}]}))
        assert cli.main(line) == 2
        said_so = capsys.readouterr().err
        assert "sam.json: annotation 0 of 1.png: its" in said_so and sentence in said_so
    content["annotations"][0]["image_id"] = 9
    (tmp_path / "sam.json").write_text(json.dumps(content))
    assert cli.main(line) == 2
    assert "an annotation is of picture 9, which 'images' does not list" in capsys.readouterr().err
