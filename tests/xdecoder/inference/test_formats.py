"""Regions in other tools' formats hold the same pixels."""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from xdecoder.inference import formats
from xdecoder.inference.results import Instances, Semantic
from xdecoder.postprocessing import ResizedMasks

MASK = np.zeros((9, 12), bool)
MASK[1:6, 1:7] = True
MASK[2:5, 3:5] = False  # a hole
MASK[6, 7] = True  # touches the first piece at a corner
MASK[7:9, 10:12] = True  # at the picture's corner


def result() -> Semantic:
    return Semantic(Image.new("RGB", (12, 9)), ("box", "gap"), torch.from_numpy(np.where(MASK, 0, -1)))


def test_rings_hold_the_mask_and_nothing_else() -> None:
    for mask in (MASK, np.random.default_rng(0).random((40, 50)) < 0.5, np.zeros((3, 3), bool), np.ones((3, 3), bool)):
        found = formats.rings(mask)
        assert sum(map(formats.area, found)) == mask.sum()
        big = Image.new("1", (10 * mask.shape[1], 10 * mask.shape[0]))
        for ring in sorted(found, key=lambda ring: -abs(formats.area(ring))):
            ImageDraw.Draw(big).polygon([(10 * x, 10 * y) for x, y in ring], fill=int(formats.area(ring) > 0))
        assert len(found) == len({tuple(ring) for ring in found})
    centres = np.asarray(big)[5::10, 5::10]
    assert centres.all()
    assert [len(ring) for ring in formats.rings(MASK)] == [4, 4, 4, 4]


def test_geojson_and_yolo_and_label_studio() -> None:
    (feature,) = formats.geojson(result())["features"]
    assert feature["properties"]["name"] == "box"
    pieces = feature["geometry"]["coordinates"]
    assert sorted(len(piece) for piece in pieces) == [1, 1, 2], "the hole belongs to the piece around it"
    assert all(ring[0] == ring[-1] for piece in pieces for ring in piece)
    lines = formats.yolo(result(), ["gap", "box"]).splitlines()
    assert len(lines) == 3 and all(line.startswith("1 ") for line in lines)
    assert all(0 <= float(value) <= 1 for line in lines for value in line.split()[1:])
    task = formats.label_studio("a.jpg", result())
    first = task["predictions"][0]["result"][0]
    assert task["data"] == {"image": "a.jpg"} and first["value"]["polygonlabels"] == ["box"]
    assert max(value for point in first["value"]["points"] for value in point) <= 100


def test_coco_numbers_images_and_categories() -> None:
    content = formats.coco([("a.jpg", result()), ("b.jpg", result())])
    assert [image["id"] for image in content["images"]] == [1, 2] and content["categories"] == [{"id": 1, "name": "box"}]
    assert [(each["image_id"], each["area"]) for each in content["annotations"]] == [(1, MASK.sum()), (2, MASK.sum())]
    json.dumps(content, default=int)


def test_supervision_is_asked_for_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ValueError, match="pip install supervision"):
        result().to_supervision()


def test_fiftyone_there_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("fiftyone")
    package.Detection = lambda **known: SimpleNamespace(**known)  # type: ignore[attr-defined]
    package.Detections = SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fiftyone", package)
    masks = torch.zeros(3, 40, 60)
    masks[0, 5:20, 10:31], masks[1, 30:, 50:], masks[1, 35, 55] = 1, 1, 0  # the third is nowhere
    size = (40, 60)
    instances = Instances(
        Image.new("RGB", (60, 40)),
        ("cat", "dog"),
        torch.tensor([1, 0, 0]),
        torch.tensor([0.9, 0.5, 0.1]),
        ResizedMasks(masks - 0.5, size, size, size),
    )
    found = instances.to_fiftyone()
    assert [each.label for each in found.detections] == ["dog", "cat"]
    assert found.detections[0].bounding_box == pytest.approx([10 / 60, 5 / 40, 21 / 60, 15 / 40])
    assert found.detections[0].mask.shape == (15, 21) and not found.detections[1].mask.all()
    again = Instances.from_fiftyone(found, instances.image)
    assert again.names == ("dog", "cat") and again.labels.tolist() == [0, 1]
    assert again.scores.tolist() == pytest.approx([0.9, 0.5]) and torch.equal(again.masks, masks[:2] > 0)
    box = SimpleNamespace(label="cup", bounding_box=[0, 0.5, 0.5, 0.5], mask=None, confidence=None)
    (mask,) = Instances.from_fiftyone(SimpleNamespace(detections=[box]), instances.image).masks
    assert mask[20:, :30].all() and mask.sum() == 20 * 30
    assert len(Instances.from_fiftyone(SimpleNamespace(detections=[]), instances.image).masks) == 0
    box.bounding_box = None
    with pytest.raises(ValueError, match="detection 0: bounding_box must be left, top, width and height"):
        Instances.from_fiftyone(SimpleNamespace(detections=[box]), instances.image)
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(ValueError, match="pip install fiftyone"):
        instances.to_fiftyone()
