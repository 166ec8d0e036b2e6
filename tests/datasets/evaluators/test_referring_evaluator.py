"""Referring scores from masks whose IoU is known."""

from __future__ import annotations

import math

import pytest
import torch

from datasets.evaluators import ReferringEvaluator
from xdecoder.types import Phrases, ReferringResult, Sample


def case(pairs: list[tuple[int, int, int]], id: int = 1) -> tuple[ReferringResult, Sample]:
    """One phrase for each (found only, both, true only) count of pixels, on a 4 x 10 picture."""
    found, true = torch.zeros(len(pairs), 40, dtype=torch.bool), torch.zeros(len(pairs), 40, dtype=torch.bool)
    for i, (only_found, both, only_true) in enumerate(pairs):
        found[i, : only_found + both] = True
        true[i, only_found : only_found + both + only_true] = True
    phrases = Phrases(tuple(f"phrase {i}" for i in range(len(pairs))), true.view(-1, 4, 10))
    sample = Sample(id, torch.zeros(3, 2, 2, dtype=torch.uint8), (4, 10), phrases=phrases)
    return ReferringResult(found.view(-1, 4, 10), torch.zeros(len(pairs))), sample


def test_scores_and_thresholds_that_are_just_reached() -> None:
    evaluator = ReferringEvaluator()
    evaluator.update(*case([(0, 5, 5), (1, 7, 2)], 1))  # 0.5 and 0.7
    evaluator.update(*case([(0, 0, 10), (0, 0, 0), (0, 30, 0)], 2))
    assert evaluator.compute() == pytest.approx(
        {
            "referring_cIoU": 100 * 42 / 60,
            "referring_mIoU": 100 * 2.2 / 5,
            "referring_precision@0.5": 60,
            "referring_precision@0.6": 40,
            "referring_precision@0.7": 40,
            "referring_precision@0.8": 20,
            "referring_precision@0.9": 20,
        }
    )


def test_merging_counts_each_picture_once() -> None:
    cases = [case([(i, 5, 9 - i)], i) for i in range(6)]
    whole, first, second = ReferringEvaluator(), ReferringEvaluator(), ReferringEvaluator()
    for i, one in enumerate(cases):
        whole.update(*one)
        (first if i < 4 else second).update(*one)
    second.update(*cases[0])
    second.merge([first.state(), second.state()])
    assert second.compute() == whole.compute()


def test_without_phrases_there_is_nothing_to_score() -> None:
    evaluator = ReferringEvaluator()
    sample = Sample(1, torch.zeros(3, 2, 2, dtype=torch.uint8), (4, 10))
    evaluator.update(ReferringResult(torch.zeros(0, 4, 10, dtype=torch.bool), torch.zeros(0)), sample)
    assert all(math.isnan(value) for value in evaluator.compute().values())


def test_misfits_are_refused() -> None:
    result, sample = case([(0, 5, 5), (1, 7, 2)])
    with pytest.raises(ValueError, match="picture 1: 1 masks for 2 phrases"):
        ReferringEvaluator().update(ReferringResult(result.masks[:1], result.scores[:1]), sample)
    with pytest.raises(ValueError, match=r"expected \(4, 10\)"):
        ReferringEvaluator().update(ReferringResult(result.masks[:, :2], result.scores), sample)
