"""Named colours and shapes against what the scenes hold, and which evaluator measures what."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from datasets.evaluators import AttributeEvaluator, evaluators_for
from datasets.readers.coco import CocoSpec
from datasets.shapes import COLOURS, SHAPES
from xdecoder.tasks import names
from xdecoder.types import CaptionResult, Sample, Vocabulary

SCENES = {
    "images": [
        {"image_id": 1, "objects": [{"shape": "star", "colour": "red", "size": "large"}, {"shape": "cube", "colour": "blue"}]},
        {"image_id": 2, "objects": [{"shape": "ring", "colour": "green"}]},
    ]
}


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    path = tmp_path / "scenes.json"
    path.write_text(json.dumps(SCENES))
    return path


def sample(id: int) -> Sample:
    return Sample(id, torch.zeros(3, 2, 2, dtype=torch.uint8), (2, 2), captions=("a red star",))


@pytest.mark.parametrize(
    ("first", "second", "accuracy", "precision"),
    [
        ("A large red star, left of a small blue cube.", "a green ring on grass", 100, 100),
        ("a blue star and a red star", "a green ring and a green star", 50, 50),
        ("a red thing near a star", "a red large ring", 0, 0),  # no colour directly before a shape
        ("a red star", "", 50, 100),
    ],
)
def test_pairs(scenes: Path, first: str, second: str, accuracy: float, precision: float) -> None:
    one = AttributeEvaluator(scenes, COLOURS, SHAPES)
    other = AttributeEvaluator(scenes, COLOURS, SHAPES)
    one.update(CaptionResult(first), sample(1))
    other.update(CaptionResult(second), sample(2))
    one.merge([other.state(), one.state()])
    assert one.compute() == {"caption_pair_accuracy": accuracy, "caption_pair_precision": precision}


def test_hopeless_input(scenes: Path) -> None:
    evaluator = AttributeEvaluator(scenes, COLOURS, SHAPES)
    assert all(math.isnan(value) for value in evaluator.compute().values())
    with pytest.raises(ValueError, match=r"scenes\.json: holds no image with id 7"):
        evaluator.update(CaptionResult("a red star"), sample(7))
    scenes.write_text("{}")
    with pytest.raises(ValueError, match=r"scenes\.json: expected scenes"):
        AttributeEvaluator(scenes, COLOURS, SHAPES)


def test_the_specification_says_what_applies(scenes: Path) -> None:
    vocabulary = Vocabulary(("star", "grass"), (True, False))
    spec = CocoSpec(
        name="made up",
        images="images",
        panoptic="p.json",
        panoptic_images="p",
        captions="c.json",
        scenes="scenes.json",
        evaluators=("panoptic", "semantic", "instance", "referring", "captioning", "attributes", "retrieval"),
    )
    kinds = {task: [type(one).__name__ for one in evaluators_for(task, spec, scenes.parent, vocabulary)] for task in names()}
    assert kinds == {
        "segmentation": ["PanopticEvaluator", "InstanceEvaluator", "SemanticEvaluator"],
        "referring": [],  # the set has no phrases
        "captioning": ["CaptionEvaluator", "AttributeEvaluator"],
        "retrieval": ["RetrievalEvaluator"],
        "classification": [],
        "vqa": [],
        "interactive": [],  # nor does it list its evaluator
    }
    with pytest.raises(ValueError, match="'made up': scores of classes cannot be had without class names"):
        evaluators_for("segmentation", spec, scenes.parent, None)
    with pytest.raises(ValueError, match="'attributes' needs the key scenes"):
        evaluators_for("captioning", spec.model_copy(update={"scenes": None}), scenes.parent, vocabulary)
    with pytest.raises(ValueError, match="unknown task 'segment'; did you mean 'segmentation'"):
        evaluators_for("segment", spec, scenes.parent, vocabulary)
