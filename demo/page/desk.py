"""Where all questions of the page come together: one fair queue, in which those that wait are answered together."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xdecoder.inference.predictor import Predictor
from xdecoder.serving.batching import Batcher, QueueFullError
from xdecoder.serving.questions import Asked, answer_together

TOGETHER = 8  # questions that are computed as one batch
WAITING = 64  # that may wait; whoever comes then is told to come back

Ask = Callable[[Predictor], Any]  # what is no question of one picture, such as a round of clicks


@dataclass(frozen=True)
class Job:
    network: str
    ask: Asked | Ask


class Desk:
    """Networks by name, and the queue before them.

    Args:
        networks: the first is asked by whoever names none.
    """

    def __init__(self, networks: Mapping[str, Predictor]) -> None:
        self.networks = dict(networks)
        self._batcher: Batcher[Job, Any] = Batcher(self.answers, TOGETHER, WAITING)
        self._worker: asyncio.Task[None] | None = None

    def network(self, name: Any = None) -> str:
        """The name of a network, which a visitor chose; raises ValueError for one that is not here."""
        if name in (None, ""):
            return next(iter(self.networks))
        if not isinstance(name, str) or name not in self.networks:
            raise ValueError(f"Choose one of the networks {', '.join(self.networks)}.")
        return name

    async def ask(self, network: str, ask: Asked | Ask, visitor: Hashable) -> Any:
        """The answer, once it is the visitor's turn; raises ValueError in a sentence that the visitor may read."""
        if self._worker is None:  # it lives in the server's event loop, which is known from now on
            self._worker = asyncio.create_task(self._batcher.run())
        try:
            return await self._batcher.submit(Job(network, ask), visitor)
        except QueueFullError as error:
            raise ValueError(f"{str(error).capitalize()}.") from None

    def answers(self, jobs: Sequence[Job]) -> list[Any]:
        """The answer to each job, or the exception that says what is wrong with it."""
        found: list[Any] = [None] * len(jobs)
        for name, network in self.networks.items():
            own = [n for n, job in enumerate(jobs) if job.network == name]
            alike = [(n, job.ask) for n in own if isinstance((job := jobs[n]).ask, Asked)]
            for (n, _), answer in zip(alike, answer_together(network, [asked for _, asked in alike]), strict=True):
                found[n] = answer
            for n in own:
                if not isinstance(ask := jobs[n].ask, Asked):
                    found[n] = _answer(network, ask)
        return found


def _answer(network: Predictor, ask: Ask) -> Any:
    try:
        return ask(network)
    except Exception as error:
        return error


async def kindly(work: Any) -> Any:
    """What an awaitable gives; raises gradio's error, with a sentence that the visitor can read and nothing of a library's.

    What the visitor can mend is a ValueError of ours; what only we can mend goes to the log.
    """
    import html

    import gradio as gr

    try:
        return await work
    except ValueError as error:
        said = str(error)
    except Exception:
        traceback.print_exc()
        said = "Something went wrong on our side; the log of this page says what."
    raise gr.Error(html.escape(said), title="Not answered", print_exception=False, duration=12)
