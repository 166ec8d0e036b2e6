from __future__ import annotations

import math

import pytest
import torch

from datasets.evaluators import ClassificationEvaluator
from xdecoder.types import ClassificationResult, Sample, Vocabulary

VOCABULARY = Vocabulary(tuple("abcdefg"), (True,) * 7)


def case(label: int | None, found: list[int], id: int) -> tuple[ClassificationResult, Sample]:
    result = ClassificationResult(torch.tensor(found), torch.linspace(1, 0, len(found)))
    return result, Sample(id, torch.zeros(3, 2, 2, dtype=torch.uint8), (2, 2), label=label)


def test_first_and_among_five() -> None:
    evaluator, other = ClassificationEvaluator(VOCABULARY), ClassificationEvaluator(VOCABULARY)
    evaluator.update(*case(0, [0, 1, 2, 3, 4], 1))
    evaluator.update(*case(0, [6, 5, 4, 3, 0], 2))
    other.update(*case(3, [6, 5, 4, 1, 0], 3))
    other.update(*case(3, [6, 5, 4, 1, 0, 3], 4))
    evaluator.merge([other.state()])
    assert evaluator.compute() == {"top1": 25.0, "top5": 50.0}
    assert evaluator.per_class() == {"a": {"top1": 50.0, "top5": 100.0}, "d": {"top1": 0.0, "top5": 0.0}}
    assert evaluator.per_image()[2] == 20


def test_hopeless_input() -> None:
    assert all(math.isnan(value) for value in ClassificationEvaluator(VOCABULARY).compute().values())
    with pytest.raises(ValueError, match="picture 1: has no class"):
        ClassificationEvaluator(VOCABULARY).update(*case(None, [0], 1))
    with pytest.raises(ValueError, match="predicted label 9"):
        ClassificationEvaluator(VOCABULARY).update(*case(0, [9], 1))
