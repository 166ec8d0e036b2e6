"""What ten people answered as a target, and how far a network is from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

AnswerLoss = Literal["each", "one"]
"""Whether each answer is right or not by itself, as several may be to some degree (published), or one is chosen of all."""

AGREEMENT = (0.0, 0.3, 0.6, 0.9, 1.0)  # how right an answer is that so many people gave


def soft_targets(given: Sequence[Sequence[str]], answers: Sequence[str]) -> Tensor:
    """How right each answer is to each question, (Q, A) in 0…1.

    Args:
        given: what people said to each question, in the spelling of `answers`.
        answers: what can be answered; what people said beside it counts for nothing.
    """
    place = {answer: i for i, answer in enumerate(answers) if answer}
    targets = torch.zeros(len(given), len(answers))
    for row, said in enumerate(given):
        for answer, people in Counter(said).items():
            if answer in place:
                targets[row, place[answer]] = AGREEMENT[min(people, len(AGREEMENT) - 1)]
    return targets


def answer_loss(logits: Tensor, targets: Tensor, total: float, kind: AnswerLoss = "each") -> Tensor:
    """Cross-entropy in full precision, of each answer by itself and summed, or of all; the mean over the step's questions.

    logits, targets: (Q, A). Questions without any right answer among them teach nothing and are not counted in
    `total`, the number of the step's questions.
    """
    if kind == "each":
        each = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none").sum(dim=1)
    else:
        shares = targets / targets.sum(dim=1, keepdim=True).clamp(min=1e-6)
        each = -(shares * logits.float().log_softmax(dim=1)).sum(dim=1)
    return (each * targets.any(dim=1)).sum() / max(total, 1.0)
