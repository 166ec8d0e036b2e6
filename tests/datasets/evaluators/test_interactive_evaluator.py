"""Numbers of clicks, objects that are never reached, and the curve, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from datasets.evaluators.interactive import InteractiveEvaluator
from xdecoder.types import InteractiveResult, Objects, Sample


def sample(name: str, objects: int) -> Sample:
    return Sample(name, torch.zeros(3, 4, 4), (4, 4), objects=Objects(torch.zeros(objects, 4, 4, dtype=torch.bool)))


def evaluator() -> InteractiveEvaluator:
    found = InteractiveEvaluator()
    rounds = torch.tensor([[0.4, 0.85, 0.8, 0.92], [0.6, 0.6, 0.6, 0.6]], dtype=torch.float64)
    found.update(InteractiveResult(rounds, seconds=1.0, passes=4), sample("a", 2))
    found.update(InteractiveResult(torch.full((1, 4), 0.95, dtype=torch.float64), seconds=0.25, passes=1), sample("b", 1))
    return found


def test_scores() -> None:
    """Three objects, four clicks at most: the second never gets to 80 and counts with four."""
    scores = evaluator().compute()
    assert scores["interactive_NoC@50"] == pytest.approx((2 + 1 + 1) / 3)
    assert scores["interactive_NoC@80"] == scores["interactive_NoC@85"] == pytest.approx((2 + 4 + 1) / 3)
    assert scores["interactive_NoC@90"] == pytest.approx((4 + 4 + 1) / 3)
    assert scores["interactive_NoF@85"] == 1 and scores["interactive_NoF@90"] == 1
    assert scores["interactive_mIoU@1"] == pytest.approx(100 * (0.4 + 0.6 + 0.95) / 3)
    assert scores["interactive_mIoU@3"] == pytest.approx(100 * (0.8 + 0.6 + 0.95) / 3)
    assert "interactive_mIoU@5" not in scores


def test_the_curve_and_the_images() -> None:
    found = evaluator()
    assert list(found.per_class()) == ["after 1 click", "after 2 clicks", "after 3 clicks", "after 4 clicks"]
    assert found.per_class()["after 4 clicks"]["IoU"] == pytest.approx(100 * (0.92 + 0.6 + 0.95) / 3)
    assert found.per_image() == pytest.approx({"a": 50.0, "b": 95.0})
    assert found.notes() == ["0.250 s per click (SPC), images being encoded already"]


def test_two_processes_make_one() -> None:
    whole, first, second = evaluator(), InteractiveEvaluator(), InteractiveEvaluator()
    first.merge([{"b": whole.state()["b"]}])
    second.merge([{"a": whole.state()["a"], "b": whole.state()["b"]}])
    first.merge([second.state()])
    assert first.compute() == whole.compute()


def test_without_objects_nothing_is_known() -> None:
    found = InteractiveEvaluator()
    found.update(InteractiveResult(torch.zeros(0, 4)), sample("a", 0))
    assert all(math.isnan(score) for score in found.compute().values()) and found.notes() == []


def test_another_number_of_objects() -> None:
    with pytest.raises(ValueError, match="picture a: 1 rows of IoUs for 2 objects"):
        InteractiveEvaluator().update(InteractiveResult(torch.zeros(1, 4)), sample("a", 2))
