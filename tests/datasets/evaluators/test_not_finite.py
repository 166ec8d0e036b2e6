"""Outputs that are infinite or not a number stop every evaluation, and say whose they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from datasets.evaluators import (
    ClassificationEvaluator,
    InstanceEvaluator,
    PanopticEvaluator,
    ReferringEvaluator,
    RetrievalEvaluator,
    SemanticEvaluator,
)
from tests.tiny import VOCABULARY, tiny_batch, tiny_model, tiny_tasks
from xdecoder.config import parse
from xdecoder.tasks import TasksConfig
from xdecoder.types import (
    ClassificationResult,
    InstanceResult,
    PanopticResult,
    PanopticSegment,
    ReferringResult,
    RetrievalResult,
    Sample,
    SegmentationResult,
)

SAMPLE = tiny_batch().samples[1]
SIZE = SAMPLE.output_size


def _segmentation(score: float) -> SegmentationResult:
    ids = torch.ones(SIZE, dtype=torch.int32)
    return SegmentationResult(
        torch.zeros(SIZE, dtype=torch.int64),
        InstanceResult(torch.ones(1, *SIZE, dtype=torch.bool), torch.tensor([0]), torch.tensor([score])),
        PanopticResult(ids, (PanopticSegment(1, 0, True, 0.5 if score != score else score),)),
    )


CASES: dict[str, tuple[Any, Any, str]] = {
    "instance": (lambda: InstanceEvaluator(VOCABULARY), _segmentation, "an instance's score"),
    "panoptic": (lambda: PanopticEvaluator(VOCABULARY), _segmentation, "an instance's score"),
    "segment": (
        lambda: PanopticEvaluator(VOCABULARY),
        lambda x: PanopticResult(torch.ones(SIZE, dtype=torch.int32), (PanopticSegment(1, 0, True, x),)),
        "a segment's score",
    ),
    "semantic": (lambda: SemanticEvaluator(VOCABULARY), _segmentation, "an instance's score"),
    "referring": (
        ReferringEvaluator,
        lambda x: ReferringResult(torch.ones(1, *SIZE, dtype=torch.bool), torch.tensor([x])),
        "a phrase's score",
    ),
    "retrieval": (
        RetrievalEvaluator,
        lambda x: RetrievalResult(torch.tensor([[x, 0.0]]), torch.ones(2, 2)),
        "picture's vector",
    ),
    "captions": (
        RetrievalEvaluator,
        lambda x: RetrievalResult(torch.ones(1, 2), torch.tensor([[1.0, x]] * 2)),
        "caption's vector",
    ),
    "classification": (
        lambda: ClassificationEvaluator(VOCABULARY),
        lambda x: ClassificationResult(torch.tensor([0]), torch.tensor([x])),
        "a class's score",
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_every_evaluator_stops(name: str, value: float) -> None:
    make, result, what = CASES[name]
    evaluator = make()
    sample = Sample(**{**vars(SAMPLE), "label": 0})
    evaluator.update(result(0.5), sample)
    with pytest.raises(ValueError, match=rf"picture second: .*{what} is not finite \(NaN or infinite\)"):
        evaluator.update(result(value), sample)


@torch.inference_mode()
def test_a_network_whose_outputs_are_not_finite_names_the_image() -> None:
    model, batch = tiny_model(), tiny_batch()
    for task in ("segmentation", "captioning", "retrieval", "referring"):
        assert model.predict(tiny_tasks().build([task]), batch)
    model.decoder.query_content.weight[3] = float("nan")
    for task in ("segmentation", "captioning", "retrieval", "referring"):
        with pytest.raises(ValueError, match="image first: the decoder's output is not finite"):
            model.predict(tiny_tasks().build([task]), batch)


BROKEN = [
    ("captioning", {}, "decoder.caption_position", 1, "a word's score"),
    ("captioning", {"captioning": {"beams": 2}}, "decoder.caption_position", 1, "a word's score"),
    ("captioning", {}, "language.token_embedding", 400, "a word's score"),
    ("segmentation", {}, "language.token_embedding", 320, "a class's probability"),
]


@pytest.mark.parametrize(("task", "settings", "module", "row", "what"), BROKEN)
@torch.inference_mode()
def test_weights_that_one_task_reads(task: str, settings: dict[str, Any], module: str, row: int, what: str) -> None:
    """Everything else is finite, and maps and texts would not show it."""
    model, batch = tiny_model(), tiny_batch()
    weight = model.get_submodule(module).weight
    weight[row if module == "decoder.caption_position" else slice(row)] = float("nan")
    with pytest.raises(ValueError, match=f"image first: {what} is not finite"):
        model.predict(parse(TasksConfig, {**tiny_tasks().model_dump(), **settings}).build([task]), batch)
