"""Soft targets from what people said, and the loss against a hand-made case."""

from __future__ import annotations

import math

import pytest
import torch

from xdecoder.losses.answers import answer_loss, soft_targets

ANSWERS = ("yes", "no", "", "red")


def test_an_answer_is_as_right_as_people_agree_on_it() -> None:
    given = [["yes"] * 7 + ["no"] * 2 + ["maybe"], ["red", "yes", *["no"] * 3, *["blue"] * 5], ["blue"] * 10, ["no"] * 4]
    expected = [[1.0, 0.6, 0.0, 0.0], [0.3, 0.9, 0.0, 0.3], [0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
    torch.testing.assert_close(soft_targets(given, ANSWERS), torch.tensor(expected))


def test_the_loss_equals_its_closed_form() -> None:
    logits = torch.tensor([[0.0, 2.0, -1.0, 0.5], [1.0, 0.0, 0.0, 0.0], [3.0, 3.0, 3.0, 3.0]])
    targets = torch.tensor([[0.3, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])

    def term(logit: float, target: float) -> float:
        chance = 1 / (1 + math.exp(-logit))
        return -target * math.log(chance) - (1 - target) * math.log(1 - chance)

    expected = sum(term(x, t) for row in (0, 1) for x, t in zip(logits[row].tolist(), targets[row].tolist(), strict=True)) / 2
    assert answer_loss(logits, targets, 2).item() == pytest.approx(expected, rel=1e-6), "the third question has no answer"
    assert answer_loss(logits.bfloat16(), targets, 2).dtype == torch.float32


def test_a_step_without_answerable_questions_is_a_zero_with_a_gradient() -> None:
    logits = torch.randn(2, 4, requires_grad=True)
    answer_loss(logits, torch.zeros(2, 4), 0).backward()
    assert logits.grad is not None and not logits.grad.any()
