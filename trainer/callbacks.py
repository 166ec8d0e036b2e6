"""What may happen while a network learns, beside learning: classes from outside that an experiment names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import AfterValidator

from xdecoder.network import Network
from xdecoder.plugins import find, known


class Running(Protocol):
    """What a listener may count on of a trainer."""

    model: Network
    run_folder: Path
    step: int  # finished optimiser steps
    best: float  # result by which the best network is kept


class Callback:
    """A listener; each process has its own. One that changes what is learnt must do so alike in all of them."""

    def step_done(self, trainer: Running) -> None:
        """After each step; `trainer.step` are finished."""

    def evaluated(self, trainer: Running, results: Mapping[str, float]) -> None:
        """After each evaluation during training; the results are the main process's."""

    def ended(self, trainer: Running) -> None:
        """When training ends or is interrupted in order."""


GROUP, WHAT = "xdecoder.callbacks", "callback"
CallbackName = Annotated[str, AfterValidator(partial(known, ours={}, group=GROUP, what=WHAT))]
"""An import path, `package.module:Name`, or an entry point of the group `xdecoder.callbacks`."""


def build(name: str) -> Callback:
    """The listener of that name; raises ValueError if there is none."""
    return find(name, Callback, {}, GROUP, WHAT)()
