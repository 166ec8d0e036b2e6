"""The figures between two log lines, gathered on the device."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

PICTURES_NAMED = 8


class NonFiniteError(ArithmeticError):
    """The loss or its gradient is infinite or not a number; the weights are those from before that step."""


class _Step(NamedTuple):
    number: int             # from 1
    loss: Tensor
    gradient_norm: Tensor
    pictures: list[str]


class Meter:
    """Means of the loss terms, and whether all was finite. Reads the device only in `check` and `flush`, as that waits for it.

    Args:
        watch_gradient: whether a gradient that is not finite is a fault; fp16's overflow now and then, and its scaler copes.
    """

    def __init__(self, device: torch.device, watch_gradient: bool) -> None:
        self.bad = torch.zeros((), device=device)     # 1 from the first fault on
        self._watch_gradient = watch_gradient
        self._checked = 0                             # steps known to be finite
        self._clear()

    def add_terms(self, terms: Mapping[str, Tensor], parts: int) -> None:
        """Add a batch's loss terms, of which a step has `parts`."""
        for name, value in terms.items():
            share = value.detach().float() / parts
            self._terms[name] = self._terms[name] + share if name in self._terms else share

    def add_step(self, number: int, loss: Tensor, gradient_norm: Tensor, pictures: list[str]) -> None:
        """Add the step that is about to be taken; `pictures` are named if it turns out bad."""
        watched = loss + gradient_norm if self._watch_gradient else loss
        self.bad = torch.maximum(self.bad, (~watched.isfinite()).float())
        self._steps.append(_Step(number, loss, gradient_norm, pictures))

    def check(self) -> None:
        """Raises NonFiniteError, naming the first bad step since the last check and its pictures."""
        fresh = self._steps[self._checked :]
        if not fresh:
            return
        figures = torch.stack([torch.stack((step.loss, step.gradient_norm)) for step in fresh]).tolist()
        for step, (loss, norm) in zip(fresh, figures, strict=True):
            if not math.isfinite(loss):
                raise NonFiniteError(_complaint("loss", loss, step))
            if self._watch_gradient and not math.isfinite(norm):
                raise NonFiniteError(_complaint("gradient's norm", norm, step))
        self._checked = len(self._steps)

    def flush(self, processes: int) -> dict[str, Any]:
        """Means since the last flush: loss, losses by name, gradient_norm; and images_per_second of all processes."""
        count = len(self._steps)
        norms = torch.stack([step.gradient_norm for step in self._steps])
        usable = norms[norms.isfinite()]
        values = torch.stack([*self._terms.values(), torch.stack([step.loss for step in self._steps]).sum()]) / count
        *means, loss = values.tolist()
        pictures = sum(len(step.pictures) for step in self._steps) * processes
        figures = {
            "loss": loss,
            "losses": dict(zip(self._terms, means, strict=True)),
            "gradient_norm": usable.mean().item() if len(usable) else 0.0,
            "images_per_second": pictures / max(time.monotonic() - self._began, 1e-9),
        }
        self._clear()
        return figures

    def leave_out(self, seconds: float) -> None:
        """Do not count these seconds, spent on something else than training, in the speed."""
        self._began += seconds

    def _clear(self) -> None:
        self._terms: dict[str, Tensor] = {}
        self._steps: list[_Step] = []
        self._checked = 0
        self._began = time.monotonic()


def _complaint(what: str, value: float, step: _Step) -> str:
    named = ", ".join(step.pictures[:PICTURES_NAMED])
    more = f" and {len(step.pictures) - PICTURES_NAMED} more" if len(step.pictures) > PICTURES_NAMED else ""
    return (
        f"step {step.number}: the {what} is {value} on pictures {named}{more}; no weight was changed by it. "
        "Look at those pictures, or lower trainer.learning_rate; the same command goes on from the last saved state"
    )


def summary(figures: Mapping[str, Any]) -> str:
    """One short text for the progress display: the loss, its sum by task, and the speed."""
    tasks: dict[str, float] = {}
    for name, value in figures["losses"].items():
        task = name.split("/")[0]
        tasks[task] = tasks.get(task, 0.0) + value
    parts: Sequence[str] = [f"loss {figures['loss']:.3f}", *(f"{task} {value:.3f}" for task, value in tasks.items())]
    return "  ".join([*parts, f"{figures['images_per_second']:.1f} images/s"])
