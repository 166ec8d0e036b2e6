"""What charts are drawn from, and that they say it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datasets.evaluators.instance import InstanceEvaluator
from datasets.evaluators.semantic import SemanticEvaluator
from trainer.report.charts import charts_section, confusion, precision_recall, table
from xdecoder.types import InstanceResult, Sample, SegmentationResult, Segments, Vocabulary

CLASSES = Vocabulary(("cat", "dog"), (True, True))


def sample(labels: torch.Tensor) -> Sample:
    masks = torch.stack([labels == 0, labels == 1])
    segments = Segments(masks, torch.tensor([0, 1]), torch.zeros(2, dtype=torch.bool))
    return Sample("a", torch.zeros(3, 4, 4, dtype=torch.uint8), (4, 4), segments)


def test_confusion_counts_shares_of_true_pixels() -> None:
    labels = torch.zeros(4, 4, dtype=torch.int64)
    labels[2:] = 1
    found = labels.clone()
    found[2, :2] = 0  # a quarter of the dog is taken for the cat
    evaluator = SemanticEvaluator(CLASSES)
    evaluator.update(SegmentationResult(found, None, None), sample(labels))
    chart = evaluator.charts()["confusion"]
    assert chart == {"names": ["cat", "dog", "others"], "shares": [[1.0, 0.0, 0.0], [0.25, 0.75, 0.0]]}
    assert "dog taken for cat: 25.0 %" in confusion(**chart)


def test_precision_falls_where_a_wrong_one_is_surer() -> None:
    labels = torch.zeros(4, 4, dtype=torch.int64)
    labels[2:] = 1
    truth = sample(labels)
    assert truth.segments is not None
    masks = torch.stack((truth.segments.masks[0], truth.segments.masks[1], truth.segments.masks[0]))
    evaluator = InstanceEvaluator(CLASSES)
    evaluator.update(InstanceResult(masks, torch.tensor([0, 0, 1]), torch.tensor([0.5, 0.9, 0.8])), truth)
    curves = evaluator.charts()["precision_recall"]
    assert curves["cat"] == pytest.approx([50.0] * 21) and np.allclose(curves["dog"], 0.0)
    assert "mean of all <b>25</b>" in precision_recall(curves)


def test_the_worst_class_stands_first_and_names_are_escaped() -> None:
    drawn = table({"<b>": {"IoU": 80.0}, "sky": {"IoU": 20.0, "ACC": float("nan")}})
    assert drawn.index("sky") < drawn.index("&lt;b&gt;") and "–" in drawn
    assert charts_section({}, {}) == ""
    assert "val" in charts_section({"val": {}}, {"val": {"sky": {"IoU": 1.0}}})
