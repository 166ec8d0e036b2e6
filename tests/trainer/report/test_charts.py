"""What charts are drawn from, and that they say it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datasets.evaluators.confusion import ObjectConfusion
from datasets.evaluators.instance import InstanceEvaluator
from datasets.evaluators.semantic import SemanticEvaluator
from trainer.report.charts import by_score, charts_section, confusion, precision_recall, table
from trainer.report.curves import evaluations_section
from trainer.report.labels import box_of, labels_section
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
    assert "dog taken for cat: 25.0 %" in confusion(**chart, title="pixels")


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


def test_scores_by_threshold() -> None:
    labels = torch.zeros(4, 4, dtype=torch.int64)
    labels[2:] = 1
    truth = sample(labels)
    assert truth.segments is not None
    evaluator = InstanceEvaluator(CLASSES)
    masks = torch.stack((truth.segments.masks[0], truth.segments.masks[0], truth.segments.masks[1]))
    evaluator.update(InstanceResult(masks, torch.tensor([0, 1, 1]), torch.tensor([0.9, 0.6, 0.3])), truth)
    curves = evaluator.charts()["by_score"]
    assert [curves["precision"][i] for i in (0, 6, 7, 13, 19)] == [66.67, 66.67, 50.0, 100.0, None]
    assert [curves["recall"][i] for i in (0, 6, 7, 13, 19)] == [100.0, 100.0, 50.0, 50.0, 0.0]
    assert [curves["F1"][i] for i in (0, 7, 13)] == [80.0, 50.0, 66.67]
    drawn = by_score(curves)
    assert "precision, best from 0.65 <b>100</b>" in drawn and "F1, best from 0.00 <b>80</b>" in drawn


def test_objects_taken_for_others() -> None:
    labels = torch.zeros(4, 4, dtype=torch.int64)
    labels[2:] = 1
    truth = sample(labels)
    assert truth.segments is not None
    evaluator = ObjectConfusion(CLASSES)
    cat, dog = truth.segments.masks
    corner = torch.zeros_like(cat)
    corner[3, 3] = True
    found = InstanceResult(torch.stack((dog, corner, cat)), torch.tensor([0, 1, 0]), torch.tensor([0.9, 0.8, 0.1]))
    evaluator.update(found, truth)
    assert evaluator.compute() == {}
    chart = evaluator.charts()["objects"]  # the cat was missed, the dog taken for one, and a dog seen in the corner
    assert chart == {"names": ["cat", "dog", "nothing"], "shares": [[0, 0, 1], [1, 0, 0], [0, 1, 0]]}
    drawn = charts_section({"own": {"objects": chart}}, {})
    assert "dog taken for cat: 100.0 %" in drawn and "true objects (rows)" in drawn
    assert ObjectConfusion(CLASSES).charts() == {}


def test_what_a_set_teaches() -> None:
    labels = torch.zeros(4, 4, dtype=torch.int64)
    labels[2:] = 1
    drawn = labels_section("own", [sample(labels), sample(labels)], CLASSES)
    assert "4 objects in 2 pictures" in drawn and drawn.count("<circle") == 8 and ">cat<" in drawn
    assert box_of(labels > 0) == (0.0, 0.5, 1.0, 0.5) and box_of(labels > 1) is None
    assert labels_section("own", [], CLASSES) == ""


def test_scores_while_it_learnt() -> None:
    rows = [{"step": step, "results": {"own_val/AP": 2.0 * step, "own_val/APs": 0.0}} for step in (1, 2, 3)]
    drawn = evaluations_section(rows, ("AP",))
    assert "own_val/AP<" in drawn and "APs" not in drawn and evaluations_section([], ("AP",)) == ""


def test_the_worst_class_stands_first_and_names_are_escaped() -> None:
    drawn = table({"<b>": {"IoU": 80.0}, "sky": {"IoU": 20.0, "ACC": float("nan")}})
    assert drawn.index("sky") < drawn.index("&lt;b&gt;") and "–" in drawn
    assert charts_section({}, {}) == ""
    assert "val" in charts_section({"val": {}}, {"val": {"sky": {"IoU": 1.0}}})
