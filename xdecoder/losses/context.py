"""What a batch's losses must know of the others that make one step with it: in other processes, and before and after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class StepContext:
    """A batch that is a step of its own; the trainer knows of larger steps.

    The losses of a step's batches add up to what one large batch would give, in value and gradient: a mean over samples is a
    sum divided by the step's total, and a comparison of samples with one another takes in everyone's.
    """

    totals: Mapping[str, float]  # how many there are of what a loss is a mean over, in the whole step
    batches: int = 1  # of which the step consists, over all processes

    def everyone(self, rows: Tensor) -> Tensor:
        """Rows (B, …), one a sample, of all samples of the step; this batch's carry a gradient. Padded with zeros behind."""
        return rows

    def everyones(self, items: Sequence[Any]) -> list[Any]:
        """The same of plain values, one a sample."""
        return list(items)

    def share(self, loss: Tensor) -> Tensor:
        """This batch's share of a scalar loss over everyone: its value is shared out, the gradient of its own rows is whole."""
        return loss if self.batches == 1 else loss.detach() / self.batches + (loss - loss.detach())

    def once(self, value: Tensor) -> Tensor:
        """A value that is not the samples', such as a learnt scalar scale: it gets one gradient, not one from each batch."""
        return value if self.batches == 1 else value.detach() + (value - value.detach()) / self.batches
