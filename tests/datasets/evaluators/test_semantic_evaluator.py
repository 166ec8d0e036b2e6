"""Semantic scores against hand-made cases, a plain loop and a published example."""

from __future__ import annotations

import json
import math
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.evaluators import SemanticEvaluator
from xdecoder.types import Sample, SegmentationResult, Segments, Vocabulary

PAIRS = Path(__file__).resolve().parents[4] / "shared" / "data" / "eval_pairs"


def vocabulary(classes: int) -> Vocabulary:
    return Vocabulary(tuple(f"class {i}" for i in range(classes)), (False,) * classes)


def case(truth: list | np.ndarray, found: list | np.ndarray, id: int = 1) -> tuple[SegmentationResult, Sample]:
    """Label maps (H, W), where 255 in the truth is unlabelled."""
    truth = np.array(truth)
    labels = [int(label) for label in np.unique(truth) if label != 255]
    masks = torch.from_numpy(np.stack([truth == label for label in labels]) if labels else np.zeros((0, *truth.shape), bool))
    segments = Segments(masks, torch.tensor(labels, dtype=torch.int64), torch.zeros(len(labels), dtype=torch.bool))
    sample = Sample(id, torch.zeros(3, *truth.shape, dtype=torch.uint8), truth.shape, segments)
    return SegmentationResult(torch.tensor(np.array(found)), None, None), sample


def scored(classes: int, *cases: tuple[SegmentationResult, Sample]) -> dict[str, float]:
    evaluator = SemanticEvaluator(vocabulary(classes))
    for result, sample in cases:
        evaluator.update(result, sample)
    return evaluator.compute()


def test_two_classes_with_an_unlabelled_pixel() -> None:
    scores = scored(2, case([[0, 0, 1, 255]], [[0, 1, 1, 0]]))
    assert scores == pytest.approx({"mIoU": 50, "fwIoU": 50, "mACC": 75, "pACC": 200 / 3})


def test_a_class_predicted_but_nowhere_true_lowers_the_mean() -> None:
    scores = scored(4, case([[0, 0, 1, 255, 1]], [[0, 1, 1, 0, 2]]))
    assert scores == pytest.approx({"mIoU": 250 / 9, "fwIoU": (0.5 * 2 + 2 / 3) / 4 * 100, "mACC": 50, "pACC": 50})


def test_predictions_on_unlabelled_pixels_do_not_count() -> None:
    assert scored(3, case([[0, 255, 255]], [[0, 2, 1]]))["mIoU"] == 100


def test_equals_a_plain_loop_over_several_pictures_and_merges() -> None:
    rng = np.random.default_rng(0)
    cases = [case(rng.choice([0, 1, 2, 3, 255], (5, 7)), rng.integers(0, 6, (5, 7)), id) for id in range(9)]
    pixels = []
    for result, sample in cases:
        for label, mask in zip(sample.segments.labels.tolist(), sample.segments.masks, strict=True):
            pixels += [(label, int(found)) for found in result.semantic[mask]]
    ious, accuracies, weights = [], [], []
    for c in range(6):
        both = sum(t == c and p == c for t, p in pixels)
        either = sum(t == c or p == c for t, p in pixels)
        true = sum(t == c for t, _ in pixels)
        ious.append(both / either)
        weights.append(true / len(pixels))
        accuracies += [both / true] if true else []
    expected = {
        "mIoU": 100 * np.mean(ious),
        "fwIoU": 100 * np.dot(ious, weights),
        "mACC": 100 * np.mean(accuracies),
        "pACC": 100 * sum(t == p for t, p in pixels) / len(pixels),
    }
    assert scored(7, *cases) == pytest.approx(expected)

    first, second = SemanticEvaluator(vocabulary(7)), SemanticEvaluator(vocabulary(7))
    for i, (result, sample) in enumerate(cases):
        (first if i % 2 else second).update(result, sample)
    first.merge([second.state(), first.state()])
    assert first.compute() == scored(7, *cases)
    assert first.per_class()["class 1"]["IoU"] == pytest.approx(100 * ious[1])
    assert math.isnan(first.per_class()["class 5"]["ACC"]) and "class 6" not in first.per_class()


def test_a_label_map_is_the_truth_where_there_is_one() -> None:
    result, sample = case([[1, 1, 0]], [[0, 0, 1]])
    evaluator = SemanticEvaluator(vocabulary(2))
    evaluator.update(result, replace(sample, label_map=torch.tensor([[0, -1, 1]])))
    assert evaluator.compute()["mIoU"] == 100
    assert evaluator.per_image() == {1: 100.0}


def test_folded_labels_count_as_one() -> None:
    evaluator = SemanticEvaluator(vocabulary(6), fold=2)
    evaluator.update(*case([[0, 1, 2, 2]], [[0, 5, 4, 2]]))
    assert evaluator.compute() == pytest.approx(
        {"mIoU": 100 * (1 + 0 + 2 / 3) / 3, "fwIoU": 100 * (1 + 4 / 3) / 4, "mACC": 100 * 2 / 3, "pACC": 75}
    )


def test_memory_goes_with_what_occurs_not_with_the_square_of_the_classes() -> None:
    """100 pictures of 20 000 classes; one dense matrix would take 3.2 GB."""
    rng, evaluator = np.random.default_rng(0), SemanticEvaluator(vocabulary(20_000))
    tracemalloc.start()
    for id in range(100):
        truth = np.kron(rng.integers(0, 20_000, (2, 2)), np.ones((8, 8), int))
        found = np.where(rng.random(truth.shape) < 0.5, truth, truth[::-1])
        masks = torch.from_numpy(np.stack([truth == label for label in np.unique(truth)]))
        segments = Segments(masks, torch.from_numpy(np.unique(truth)), torch.zeros(len(masks), dtype=torch.bool))
        sample = Sample(id, torch.zeros(3, 16, 16, dtype=torch.uint8), (16, 16), segments)
        evaluator.update(SegmentationResult(torch.from_numpy(found), None, None), sample)
    scores = evaluator.compute()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 10 < scores["mIoU"] < 90 and peak < 20e6


def test_nothing_labelled_is_nan() -> None:
    assert all(math.isnan(value) for value in scored(2, case([[255, 255]], [[0, 1]])).values())


def test_labels_outside_the_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match="picture 1: predicted label 2"):
        scored(2, case([[0, 0]], [[0, 2]]))
    with pytest.raises(ValueError, match="annotated label 5"):
        scored(2, case([[0, 5]], [[0, 1]]))


@pytest.mark.skipif(not PAIRS.is_dir(), reason="the real-data kit ../shared is absent")
def test_published_example() -> None:
    expected = json.loads((PAIRS / "numeric_examples" / "expected.json").read_text())
    example = next(value for key, value in expected.items() if "mean_iou" in key)
    triples = zip(example["references"], example["predictions"], range(3), strict=True)
    cases = [case(truth, np.array(found), id) for truth, found, id in triples]
    evaluator = SemanticEvaluator(vocabulary(example["num_labels"]))
    for result, sample in cases:
        evaluator.update(result, sample)
    scores = evaluator.compute()
    assert scores["mIoU"] / 100 == pytest.approx(example["mean_iou"], abs=1e-12)
    assert scores["mACC"] / 100 == pytest.approx(example["mean_accuracy"], abs=1e-12)
    assert scores["pACC"] / 100 == pytest.approx(example["overall_accuracy"], abs=1e-12)
    assert [row["IoU"] / 100 for row in evaluator.per_class().values()] == pytest.approx(example["per_category_iou"])
