"""The figures between two log lines, gathered on the device."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainer import distributed
from trainer.distributed import World

IMAGES_NAMED = 8


class NonFiniteError(ArithmeticError):
    """The loss or its gradient is infinite or not a number; the weights are those from before that step.

    `parts` are this process's batches of the step, each with its loss as text and the ids of its pictures.
    """

    def __init__(self, message: str, step: int, parts: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.step, self.parts = step, parts


class Part(NamedTuple):
    """One of a process's batches of a step."""

    loss: Tensor  # its share of the step's
    images: list[str]


class _Step(NamedTuple):
    number: int  # from 1
    loss: Tensor  # of all processes and parts
    gradient_norm: Tensor
    parts: Sequence[Part]  # this process's


class Meter:
    """Means of the loss terms, and whether all was finite. Reads the device only in `check` and `flush`, as that waits for it.

    Args:
        watch_gradient: whether a gradient that is not finite is a fault; fp16's overflow now and then, and its scaler copes.
    """

    def __init__(self, device: torch.device, watch_gradient: bool) -> None:
        self.bad = torch.zeros((), device=device)  # 1 from the first fault on
        self._device = device
        self._watch_gradient = watch_gradient
        self._checked = 0  # steps known to be finite
        self._clear()

    @contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """What passes within the block is the time that the loaders make the device wait."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._waited += time.monotonic() - start

    def _clear(self) -> None:
        self._terms: dict[str, Tensor] = {}
        self._steps: list[_Step] = []
        self._checked = 0
        self._began = time.monotonic()
        self._waited = 0.0

    def add_terms(self, terms: Mapping[str, Tensor]) -> None:
        """Add a batch's loss terms, scalars, its shares of the step's."""
        for name, value in terms.items():
            share = value.detach().float()
            self._terms[name] = self._terms[name] + share if name in self._terms else share

    def add_step(self, number: int, loss: Tensor, gradient_norm: Tensor, parts: Sequence[Part]) -> None:
        """Add the step that is about to be taken; the scalars loss and norm are everyone's, `parts` this process's batches."""
        watched = loss + gradient_norm if self._watch_gradient else loss
        self.bad = torch.maximum(self.bad, (~watched.isfinite()).float())
        self._steps.append(_Step(number, loss, gradient_norm, parts))

    def check(self) -> None:
        """Raises NonFiniteError, naming the first bad step since the last check and its pictures."""
        fresh = self._steps[self._checked :]
        if not fresh:
            return
        figures = torch.stack([torch.stack((step.loss, step.gradient_norm)) for step in fresh]).tolist()
        for step, (loss, norm) in zip(fresh, figures, strict=True):
            if not math.isfinite(loss):
                raise _complaint("loss", loss, step)
            if self._watch_gradient and not math.isfinite(norm):
                raise _complaint("gradient's norm", norm, step)
        self._checked = len(self._steps)

    def flush(self, world: World) -> dict[str, Any]:
        """Means since the last flush: loss, losses by name, gradient_norm; images_per_second of all processes; of this one
        data_seconds (waiting for batches) and compute_seconds (the rest) a step, and memory_gib, its peak."""
        count = len(self._steps)
        norms = torch.stack([step.gradient_norm for step in self._steps])
        usable = norms[norms.isfinite()]
        terms = distributed.total(torch.stack(list(self._terms.values())), world)
        *means, loss = (torch.cat((terms, torch.stack([step.loss for step in self._steps]).sum()[None])) / count).tolist()
        images = sum(len(part.images) for step in self._steps for part in step.parts) * world.size
        passed = max(time.monotonic() - self._began, 1e-9)
        figures = {
            "loss": loss,
            "losses": dict(zip(self._terms, means, strict=True)),
            "gradient_norm": usable.mean().item() if len(usable) else 0.0,
            "images_per_second": images / passed,
            "data_seconds": self._waited / count,
            "compute_seconds": (passed - self._waited) / count,
            "memory_gib": _peak_memory(self._device),
        }
        self._clear()
        return figures

    def state_dict(self) -> dict[str, Any]:
        """The unfinished log line, so that one that is resumed in between is the same."""
        return {
            "terms": self._terms,
            "steps": [(step.number, step.loss, step.gradient_norm) for step in self._steps],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the log line of `state_dict`; its steps are known to be good."""
        self._terms = {name: value.to(self._device) for name, value in state["terms"].items()}
        self._steps = [_Step(number, loss.to(self._device), norm.to(self._device), ()) for number, loss, norm in state["steps"]]
        self._checked = len(self._steps)

    def leave_out(self, seconds: float) -> None:
        """Do not count these seconds, spent on something else than training, in the speed."""
        self._began += seconds


def _peak_memory(device: torch.device) -> float:
    """GiB: on a GPU what tensors took at most since the last call, else the largest size that the process ever had."""
    if device.type != "cuda":
        return process_peak()
    peak: float = torch.cuda.max_memory_allocated(device) / 2**30
    torch.cuda.reset_peak_memory_stats(device)
    return peak


def process_peak() -> float:
    """GiB of memory that this process held at most; what is known of it differs between systems."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 2**30
    import resource

    unit = 2**30 if sys.platform == "darwin" else 2**20  # macOS counts bytes, Linux kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _complaint(what: str, value: float, step: _Step) -> NonFiniteError:
    """Names the pictures of the batches whose own loss is bad, or of all this process's if none is."""
    bad = [part for part in step.parts if not part.loss.isfinite()] or step.parts
    images = [image for part in bad for image in part.images]
    named = ", ".join(images[:IMAGES_NAMED])
    more = f" and {len(images) - IMAGES_NAMED} more" if len(images) > IMAGES_NAMED else ""
    message = (
        f"step {step.number}: the {what} is {value} on pictures {named}{more}; no weight was changed by it. "
        f"nonfinite_{step.number:08}.json in the run folder names the pictures of all processes. "
        "Look at those pictures, or lower trainer.learning_rate; the same command goes on from the last saved state"
    )
    return NonFiniteError(message, step.number, [{"loss": str(p.loss.item()), "images": p.images} for p in step.parts])


def summary(figures: Mapping[str, Any]) -> str:
    """One short text for the progress display: the loss, its sum by task, the speed, what held it up, and the memory."""
    tasks: dict[str, float] = {}
    for name, value in figures["losses"].items():
        task = name.split("/")[0]
        tasks[task] = tasks.get(task, 0.0) + value
    parts: Sequence[str] = [f"loss {figures['loss']:.3f}", *(f"{task} {value:.3f}" for task, value in tasks.items())]
    share = figures["data_seconds"] / (figures["data_seconds"] + figures["compute_seconds"])
    speed = f"{figures['images_per_second']:.1f} images/s, {share:.0%} of it waiting for data"
    return "  ".join([*parts, f"gradient {figures['gradient_norm']:.3g}", speed, f"{figures['memory_gib']:.1f} GiB"])
