"""SA-Co's measures against the definitions, written out over sets of pixels and all ways of matching them."""

from __future__ import annotations

import math
import random
from itertools import permutations

import numpy as np
import pytest
import torch

from datasets.evaluators.saco import SacoEvaluator
from tests.datasets.official import run_lengths
from xdecoder.types import InstanceResult, ReferringResult, Sample

HEIGHT, WIDTH = 4, 5
Pixels = frozenset[tuple[int, int]]
Case = tuple[list[tuple[Pixels, float]], list[list[Pixels]]]  # predictions with scores, and each annotator's truths


def blob(rng: random.Random) -> Pixels:
    top, left = rng.randrange(HEIGHT - 1), rng.randrange(WIDTH - 1)
    rows, columns = range(top, rng.randrange(top + 1, HEIGHT) + 1), range(left, rng.randrange(left + 1, WIDTH) + 1)
    return frozenset((r, c) for r in rows for c in columns if r < HEIGHT and c < WIDTH)


def case(rng: random.Random) -> Case:
    """Anything from nothing on both sides to four against four; annotators who agree, nearly agree or see nothing."""
    true = [blob(rng) for _ in range(rng.choice([0, 0, 1, 2, 3]))]
    annotators = [true]
    for _ in range(2):
        kind = rng.random()
        annotators.append(true if kind < 0.4 else [] if kind < 0.6 else [blob(rng) for _ in range(rng.randrange(4))])
    near = [mask if rng.random() < 0.5 else blob(rng) for mask in true] + [blob(rng) for _ in range(rng.choice([0, 0, 1]))]
    predicted = [(mask, rng.choice([0.2, 0.5, 0.9])) for mask in near if rng.random() < 0.8]
    return predicted, annotators


def array(mask: Pixels) -> np.ndarray:
    out = np.zeros((HEIGHT, WIDTH), bool)
    for place in mask:
        out[place] = True
    return out


def best_matching(predicted: list[Pixels], true: list[Pixels]) -> list[float]:
    """IoUs of the matching whose sum is largest, found by trying all of them."""
    few, many = sorted((predicted, true), key=len)
    ways = [[len(a & b) / len(a | b) for a, b in zip(few, order, strict=True)] for order in permutations(many, len(few))]
    return max(ways, key=sum) if few else []


def f1(right: int, predicted: float, true: float) -> float:
    precision, recall = right / (predicted + 1e-4), right / (true + 1e-4)
    return 2 * precision * recall / (precision + recall + 1e-4)


def written_out(cases: list[Case]) -> dict[str, float]:
    thresholds = [(50 + 5 * i) / 100 for i in range(10)]
    chosen = []
    for scored, annotators in cases:
        predicted = [mask for mask, score in scored if score >= 0.5]
        options = []
        for true in annotators:
            ious = best_matching(predicted, true)
            right = [sum(iou >= t for iou in ious) for t in thresholds]
            quality = math.inf if not predicted and not true else sum(f1(r, len(predicted), len(true)) for r in right) / 10
            options.append((quality, len(predicted), len(true), right))
        chosen.append(max(options, key=lambda option: option[0]))
    tp = sum(p > 0 and t > 0 for _, p, t, _ in chosen)
    fp, fn = sum(p > 0 and t == 0 for _, p, t, _ in chosen), sum(p == 0 and t > 0 for _, p, t, _ in chosen)
    tn = sum(p == 0 and t == 0 for _, p, t, _ in chosen)
    mcc = (tp * tn - fp * fn) / (math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) + 1e-6)
    positive = []
    for i in range(10):
        right = sum(r[i] for *_, r in chosen)
        said = sum(p for _, p, t, _ in chosen if t > 0)
        positive.append(f1(right, said, sum(t for _, _, t, _ in chosen)))
    return {
        "saco_IL_MCC": 100 * mcc,
        "saco_pmF1": 100 * sum(positive) / 10,
        "saco_cgF1": 100 * sum(value * mcc for value in positive) / 10,
        "saco_cgF1@0.5": 100 * positive[0] * mcc,
        "saco_pmF1@0.75": 100 * positive[5],
    }


def test_as_the_definitions_say_on_random_and_hostile_cases() -> None:
    for seed in range(200):
        rng = random.Random(seed)
        cases = [case(rng) for _ in range(rng.randrange(1, 6))]
        truths = [{i: [run_lengths(array(m)) for m in each[1][who]] for i, each in enumerate(cases)} for who in range(3)]
        evaluator = SacoEvaluator(truths)
        for i, (predicted, _) in enumerate(cases):
            masks = np.stack([array(mask) for mask, _ in predicted]) if predicted else np.zeros((0, HEIGHT, WIDTH), bool)
            scores = torch.tensor([score for _, score in predicted], dtype=torch.float64)
            found = InstanceResult(torch.from_numpy(masks), torch.zeros(len(masks), dtype=torch.int64), scores)
            sample = Sample(i, torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8), (HEIGHT, WIDTH))
            evaluator.update(ReferringResult(found.masks[:0], scores[:0], instances=(found,)), sample)
        computed = evaluator.compute()
        for name, value in written_out(cases).items():
            assert computed[name] == pytest.approx(value, rel=1e-12, abs=1e-12), (seed, name)


def test_a_result_without_instances_is_refused() -> None:
    sample = Sample("a", torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8), (HEIGHT, WIDTH))
    with pytest.raises(ValueError, match=r"picture a: expected the instances of one phrase \(tasks.referring.several\)"):
        SacoEvaluator([{}]).update(ReferringResult(torch.zeros(0, HEIGHT, WIDTH).bool(), torch.zeros(0)), sample)
    assert math.isnan(SacoEvaluator([{}]).compute()["saco_cgF1"])
