"""Panoptic quality against a plain loop, hand-made cases and a published example."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.evaluators import PanopticEvaluator
from xdecoder.types import PanopticResult, PanopticSegment, Sample, SegmentationResult, Segments, Vocabulary

PAIRS = Path(__file__).resolve().parents[4] / "shared" / "data" / "eval_pairs"
VOCABULARY = Vocabulary(("cat", "dog", "grass", "sky"), (True, True, False, False))


def image(ids: np.ndarray, labels: list[int], crowd: list[bool] | None = None, id: int = 1) -> Sample:
    """A sample whose true id map is `ids`: 0 = void, i = segment of labels[i - 1]."""
    masks = torch.from_numpy(ids == np.arange(1, len(labels) + 1)[:, None, None])
    flags = torch.tensor(crowd or [False] * len(labels), dtype=torch.bool)
    segments = Segments(masks, torch.tensor(labels, dtype=torch.int64), flags)
    return Sample(id, torch.zeros(3, *ids.shape, dtype=torch.uint8), ids.shape, segments)


def prediction(ids: np.ndarray, labels: dict[int, int]) -> PanopticResult:
    segments = tuple(PanopticSegment(i, label, VOCABULARY.is_thing[label % 4], 1.0) for i, label in labels.items())
    return PanopticResult(torch.from_numpy(ids.astype(np.int32)), segments)


def loop(cases: list[tuple[PanopticResult, Sample]], classes: int) -> dict[int, tuple[float, float, float]]:
    """PQ, SQ, RQ of each class that occurs, segment by segment from the definition."""
    iou, tp, fp, fn = ([0.0] * classes for _ in range(4))
    for result, sample in cases:
        masks, labels, crowd = sample.segments.masks.numpy(), sample.segments.labels.tolist(), sample.segments.crowd.tolist()
        void = ~masks.any(0) if len(masks) else np.ones(sample.output_size, bool)
        used = set()
        for segment in result.segments:
            mask = result.ids.numpy() == segment.id
            matched = False
            for i, true in enumerate(masks):
                union = (mask | true).sum() - (mask & void).sum()
                if labels[i] == segment.label and not crowd[i] and union and (mask & true).sum() / union > 0.5:
                    iou[segment.label] += (mask & true).sum() / union
                    tp[segment.label] += 1
                    used.add(i)
                    matched = True
            ignored = (mask & void).sum()
            groups = [i for i in range(len(masks)) if crowd[i] and labels[i] == segment.label]
            ignored += (mask & masks[groups[-1]]).sum() if groups else 0
            fp[segment.label] += not matched and ignored / mask.sum() <= 0.5
        for i in range(len(masks)):
            fn[labels[i]] += not crowd[i] and i not in used
    table = {}
    for c in range(classes):
        weight = tp[c] + fp[c] / 2 + fn[c] / 2
        if weight:
            table[c] = (iou[c] / weight, iou[c] / tp[c] if tp[c] else 0.0, tp[c] / weight)
    return table


def random_case(rng: np.random.Generator, id: int) -> tuple[PanopticResult, Sample]:
    """Blocks of segments with voids and crowds; the prediction is the truth with blocks changed, relabelled and shuffled."""
    count = int(rng.integers(0, 7))
    blocks = rng.integers(0, count + 1, (4, 5))
    truth = np.kron(blocks, np.ones((3, 3), int))
    present = [i for i in range(1, count + 1) if (truth == i).any()]
    truth = np.searchsorted([0, *present], truth) * np.isin(truth, present)
    labels = rng.integers(0, 4, len(present)).tolist()
    crowd = (rng.random(len(present)) < 0.3).tolist()
    found = np.where(rng.random(truth.shape) < 0.25, rng.integers(0, count + 2, truth.shape), truth) * 7
    ids = [int(i) for i in np.unique(found) if i]
    rng.shuffle(ids)
    guess = {i: labels[i // 7 - 1] if i // 7 <= len(labels) and rng.random() < 0.8 else int(rng.integers(0, 4)) for i in ids}
    return prediction(found, guess), image(truth, labels, crowd, id)


def test_equals_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    cases = [random_case(rng, id) for id in range(120)]
    evaluator = PanopticEvaluator(VOCABULARY)
    for result, sample in cases:
        evaluator.update(result, sample)
    expected, scores, classes = loop(cases, 4), evaluator.compute(), evaluator.per_class()
    assert len(expected) == 4 and any(row[0] > 0.2 for row in expected.values())
    for c, row in expected.items():
        assert [classes[VOCABULARY.names[c]][key] for key in ("PQ", "SQ", "RQ")] == pytest.approx([100 * x for x in row])
    for suffix, group in (("", (0, 1, 2, 3)), ("_things", (0, 1)), ("_stuff", (2, 3))):
        for i, name in enumerate(("PQ", "SQ", "RQ")):
            assert scores[name + suffix] == pytest.approx(100 * np.mean([expected[c][i] for c in group]))


def definition(images: list[dict], things: set[int]) -> dict[str, float]:
    """panopticapi's rules written out plainly, over id maps and segment lists as its files hold them. 0 is void."""
    iou, tp, fp, fn = Counter(), Counter(), Counter(), Counter()
    for one in images:
        truth, found = ({row["id"]: row for row in one[side]} for side in ("truth", "found"))  # of twins the last
        area = Counter(one["found_map"].ravel().tolist())
        assert set(area) - {0} == set(found), "panopticapi refuses other maps"
        true_area, shared = (
            Counter(one["truth_map"].ravel().tolist()),
            Counter(zip(one["truth_map"].ravel().tolist(), one["found_map"].ravel().tolist(), strict=True)),
        )
        true_matched, matched = set(), set()
        for (t, p), inter in shared.items():
            if t not in truth or p not in found or truth[t]["crowd"] or truth[t]["label"] != found[p]["label"]:
                continue
            value = inter / (true_area[t] + area[p] - inter - shared[0, p])
            if value > 0.5:
                iou[truth[t]["label"]] += value
                tp[truth[t]["label"]] += 1
                true_matched.add(t)
                matched.add(p)
        crowds = {row["label"]: t for t, row in truth.items() if row["crowd"]}
        for t, row in truth.items():
            fn[row["label"]] += t not in true_matched and not row["crowd"]
        for p, row in found.items():
            ignored = shared[0, p] + (shared[crowds[row["label"]], p] if row["label"] in crowds else 0)
            fp[row["label"]] += p not in matched and ignored / area[p] <= 0.5
    scores = {}
    for suffix, group in (("", None), ("_things", True), ("_stuff", False)):
        labels = [c for c in range(4) if tp[c] + fp[c] + fn[c] and (group is None or (c in things) == group)]
        rows = [(iou[c] / (w := tp[c] + fp[c] / 2 + fn[c] / 2), iou[c] / tp[c] if tp[c] else 0, tp[c] / w) for c in labels]
        for i, name in enumerate(("PQ", "SQ", "RQ")):
            scores[name + suffix] = 100 * sum(row[i] for row in rows) / len(rows) if rows else math.nan
    return scores


def plain(result: PanopticResult, sample: Sample) -> dict:
    masks, labels, crowd = sample.segments.masks.numpy(), sample.segments.labels.tolist(), sample.segments.crowd.tolist()
    truth = [{"id": i, "label": x, "crowd": c} for i, (x, c) in enumerate(zip(labels, crowd, strict=True), 1)]
    numbers = np.arange(1, len(masks) + 1)[:, None, None]
    found = [{"id": segment.id, "label": segment.label} for segment in result.segments]
    truth_map = (masks * numbers).sum(0) if len(masks) else np.zeros(sample.output_size, int)
    return {"truth": truth, "found": found, "truth_map": truth_map, "found_map": result.ids.numpy()}


def hostile(rng: np.random.Generator, id: int) -> tuple[PanopticResult, Sample]:
    """Nothing true, nothing found, all void, one pixel, crowds of one class twice, ids far apart, ids listed twice."""
    kind, size = id % 8, (1, 1) if id % 8 == 3 else (4, 6)
    truth = (
        np.zeros(size, int)
        if kind in (0, 2)
        else np.kron(rng.integers(0, 5, (2, 3) if size != (1, 1) else size), np.ones((2, 2) if size != (1, 1) else (1, 1), int))
    )
    present = np.unique(truth[truth > 0])
    truth = np.searchsorted([0, *present], truth) * (truth > 0)
    labels = rng.integers(0, 2 if kind == 5 else 4, len(present)).tolist()
    crowd = [True] * len(labels) if kind == 4 else (rng.random(len(labels)) < (0.7 if kind == 5 else 0.2)).tolist()
    found = np.zeros(size, int) if kind in (1, 2) else np.where(rng.random(size) < 0.3, rng.integers(0, 5, size), truth)
    ids = np.array([0, 3, 70_000, 16_777_215, 256, 65_536])
    result = prediction(ids[found], {int(ids[i]): int(rng.integers(0, 4)) for i in np.unique(found[found > 0])})
    if kind in (6, 7):
        twins = tuple(PanopticSegment(s.id, int(rng.integers(0, 4)), True, 0.5) for s in result.segments[:2])
        result = PanopticResult(result.ids, (*twins, *result.segments))
    return result, image(truth, labels, crowd, id)


def test_equals_the_official_definition_on_random_and_hostile_pictures() -> None:
    rng = np.random.default_rng(7)
    cases = [make(rng, id) for id in range(160) for make in ((hostile, random_case)[id % 2],)]
    evaluator = PanopticEvaluator(VOCABULARY)
    for case in cases:
        alone = PanopticEvaluator(VOCABULARY)
        for one in (alone, evaluator):
            one.update(*case)
        assert alone.compute() == pytest.approx(definition([plain(*case)], {0, 1}), abs=1e-9, nan_ok=True)
    assert evaluator.compute() == pytest.approx(definition([plain(*case) for case in cases], {0, 1}), abs=1e-9)


def test_each_picture_has_its_own_quality() -> None:
    evaluator = PanopticEvaluator(VOCABULARY)
    truth = np.array([[1, 1, 2, 2]])
    evaluator.update(prediction(truth, {1: 0, 2: 2}), image(truth, [0, 2], id=1))
    evaluator.update(prediction(truth, {1: 0, 2: 3}), image(truth, [0, 2], id=2))
    evaluator.update(prediction(truth * 0, {}), image(truth * 0, [], id=3))
    assert evaluator.per_image() == {1: 100.0, 2: 50.0}


def test_parts_merge_to_the_whole() -> None:
    rng = np.random.default_rng(1)
    cases = [random_case(rng, id) for id in range(30)]
    whole, first, second = (PanopticEvaluator(VOCABULARY) for _ in range(3))
    for i, case in enumerate(cases):
        whole.update(*case)
        (first if i < 13 else second).update(*case)
    second.update(*cases[0])  # a picture that padding gave to both processes
    first.merge([first.state(), second.state()])
    assert first.compute() == whole.compute() and first.per_class() == whole.per_class()


def test_a_perfect_prediction_is_100_and_absent_groups_are_nan() -> None:
    truth = np.array([[1, 1, 2], [1, 1, 0]])
    evaluator = PanopticEvaluator(VOCABULARY)
    result = SegmentationResult(None, None, prediction(truth * 5, {5: 0, 10: 1}))
    evaluator.update(result, image(truth, [0, 1]))
    scores = evaluator.compute()
    assert scores["PQ"] == scores["SQ"] == scores["RQ"] == scores["PQ_things"] == 100
    assert math.isnan(scores["PQ_stuff"])


def test_nothing_at_all_is_nan() -> None:
    assert all(math.isnan(value) for value in PanopticEvaluator(VOCABULARY).compute().values())


@pytest.mark.parametrize(
    ("truth", "labels", "crowd", "found", "guess", "expected"),
    [
        ([[0, 0, 0]], [], [], [[1, 1, 0]], {1: 0}, {}),  # only void: nothing is wrong
        ([[1, 1, 1]], [0], [True], [[1, 1, 0]], {1: 0}, {}),  # inside a crowd of its class
        ([[1, 1, 1]], [0], [True], [[1, 1, 0]], {1: 1}, {"dog": (0, 1, 0)}),  # inside a crowd of another class
        ([[1, 1, 1]], [0], [False], [[0, 0, 0]], {}, {"cat": (0, 0, 1)}),  # missed
        ([[1, 1]], [0], [False], [[1, 0]], {1: 0}, {"cat": (0, 1, 1)}),  # exactly one half is no match
        ([[1, 1, 1]], [0], [False], [[1, 1, 0]], {1: 0}, {"cat": (1, 0, 0)}),
        ([[1, 0, 0, 0]], [0], [False], [[1, 1, 1, 1]], {1: 0}, {"cat": (1, 0, 0)}),  # what lies in void does not count
        ([[1, 2, 0]], [0, 1], [False, False], [[1, 1, 0]], {1: 0}, {"cat": (0, 1, 1), "dog": (0, 0, 1)}),
        ([[1]], [2], [False], [[9]], {9: 2}, {"grass": (1, 0, 0)}),  # one pixel
    ],
)
def test_rules(truth: list, labels: list, crowd: list, found: list, guess: dict, expected: dict) -> None:
    evaluator = PanopticEvaluator(VOCABULARY)
    evaluator.update(prediction(np.array(found), guess), image(np.array(truth), labels, crowd))
    assert {name: (row["TP"], row["FP"], row["FN"]) for name, row in evaluator.per_class().items()} == expected


@pytest.mark.parametrize(
    ("found", "guess", "message"),
    [
        ([[1, 0]], {}, "segment list"),
        ([[0, 0]], {1: 0}, "segment list"),
        ([[1, 1]], {1: 4}, "predicted label 4"),
        ([[1, 1, 1]], {1: 0}, r"expected \(1, 2\)"),
    ],
)
def test_results_that_contradict_themselves_are_refused(found: list, guess: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PanopticEvaluator(VOCABULARY).update(prediction(np.array(found), guess), image(np.array([[1, 1]]), [0]))


def test_overlapping_truth_is_refused() -> None:
    masks = torch.ones(2, 1, 2, dtype=torch.bool)
    segments = Segments(masks, torch.tensor([0, 1]), torch.zeros(2, dtype=torch.bool))
    sample = Sample(1, torch.zeros(3, 1, 2, dtype=torch.uint8), (1, 2), segments)
    with pytest.raises(ValueError, match="overlap"):
        PanopticEvaluator(VOCABULARY).update(prediction(np.array([[1, 1]]), {1: 0}), sample)


@pytest.mark.skipif(not PAIRS.is_dir(), reason="the real-data kit ../shared is absent")
def test_published_example() -> None:
    """torchmetrics' documentation; there (category, instance) pairs are segments and every pixel of stuff is one segment."""
    expected = json.loads((PAIRS / "numeric_examples" / "expected.json").read_text())
    example = next(value for key, value in expected.items() if "PanopticQuality" in key)
    names = [*example["things"], *example["stuffs"]]
    vocabulary = Vocabulary(tuple(map(str, names)), tuple(name in example["things"] for name in names))
    maps = []
    for key in ("preds", "target"):
        pixels = np.array(example[key])[0]
        kinds, ids = np.unique(pixels.reshape(-1, 2), axis=0, return_inverse=True)
        maps.append((ids.reshape(pixels.shape[:2]) + 1, [names.index(kind) for kind in kinds[:, 0].tolist()]))
    (found, guess), (truth, labels) = maps
    evaluator = PanopticEvaluator(vocabulary)
    evaluator.update(prediction(found, dict(enumerate(guess, 1))), image(truth, labels))
    scores = evaluator.compute()
    assert [round(scores[key] / 100, 4) for key in ("PQ", "SQ", "RQ")] == example["PQ_SQ_RQ"]
