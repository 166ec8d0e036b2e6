"""What may happen while a network learns, beside learning: classes from outside that an experiment names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from xdecoder.plugins import find, known

if TYPE_CHECKING:
    from trainer.trainer import Trainer


class Callback:
    """A listener; each process has its own. One that changes what is learnt must do so alike in all of them."""

    def step_done(self, trainer: Trainer) -> None:
        """After each step; `trainer.step` are finished."""

    def evaluated(self, trainer: Trainer, results: Mapping[str, float]) -> None:
        """After each evaluation during training; the results are the main process's."""

    def ended(self, trainer: Trainer) -> None:
        """When training ends or is interrupted in order."""


GROUP, WHAT = "xdecoder.callbacks", "callback"
CallbackName = Annotated[str, AfterValidator(partial(known, ours={}, group=GROUP, what=WHAT))]
"""An import path, `package.module:Name`, or an entry point of the group `xdecoder.callbacks`."""


def build(name: str) -> Callback:
    """The listener of that name; raises ValueError if there is none."""
    return find(name, Callback, {}, GROUP, WHAT)()
