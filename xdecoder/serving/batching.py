"""Requests that wait are answered together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class QueueFullError(Exception):
    """So many wait already that another one would wait too long."""


class Batcher(Generic[Job, Result]):
    """Hands what has come in while it was busy to `work`, in a thread of its own, as one batch.

    Nobody waits for a batch to fill: a request that comes alone is answered alone.

    Args:
        work: from up to `most` jobs to as many results; an exception among the results is raised to the one it is meant for.
        waiting: jobs that may wait.
    """

    def __init__(
        self, work: Callable[[Sequence[Job]], Sequence[Result | Exception]], most: int = 8, waiting: int = 256
    ) -> None:
        self._work, self._most, self._limit = work, most, waiting
        self._jobs: deque[tuple[Job, asyncio.Future[Result]]] = deque()
        self._come = asyncio.Event()

    def __len__(self) -> int:
        """Jobs that wait."""
        return len(self._jobs)

    async def submit(self, job: Job) -> Result:
        """The job's result; a caller who gives up is passed over. Raises QueueFullError."""
        if len(self._jobs) >= self._limit:
            raise QueueFullError(f"{len(self._jobs)} requests are waiting already; try again later")
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._jobs.append((job, result))
        self._come.set()
        return await result

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._come.wait()
            batch = [self._jobs.popleft() for _ in range(min(len(self._jobs), self._most))]
            if not self._jobs:
                self._come.clear()
            batch = [(job, result) for job, result in batch if not result.done()]
            if batch:
                await self._answer(batch)

    async def _answer(self, batch: Sequence[tuple[Job, asyncio.Future[Result]]]) -> None:
        found: Sequence[Result | Exception]
        try:
            found = await asyncio.to_thread(self._work, [job for job, _ in batch])
        except Exception as error:
            found = [error] * len(batch)
        for (_, result), value in zip(batch, found, strict=True):
            if result.done():
                continue
            if isinstance(value, Exception):
                result.set_exception(value)
            else:
                result.set_result(value)
