"""Requests that wait are answered together, and nobody waits behind another's pile."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, NamedTuple, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class QueueFullError(Exception):
    """So many wait already that another one would wait too long."""


class _Waiting(NamedTuple, Generic[Job, Result]):
    job: Job
    result: asyncio.Future[Result]
    owner: Hashable


class Batcher(Generic[Job, Result]):
    """Hands what has come in while it was busy to `work`, in a thread of its own, as one batch.

    Nobody waits for a batch to fill: a request that comes alone is answered alone. An owner has one request at a time here,
    so that the order of arrival gives each of them a turn, however much one of them asks.

    Args:
        work: from up to `most` jobs to as many results; an exception among the results is raised to the one it is meant for.
        waiting: jobs that may wait.
    """

    def __init__(
        self, work: Callable[[Sequence[Job]], Sequence[Result | Exception]], most: int = 8, waiting: int = 256
    ) -> None:
        self._work, self._most, self._limit = work, most, waiting
        self._jobs: deque[_Waiting[Job, Result]] = deque()
        self._owners: set[Hashable] = set()
        self._come = asyncio.Event()

    def __len__(self) -> int:
        """Jobs that wait."""
        return len(self._jobs)

    async def submit(self, job: Job, owner: Hashable = None) -> Result:
        """The job's result; a caller who gives up is passed over.

        Args:
            owner: who asks; None = somebody who asks once.

        Raises:
            QueueFullError: where too many wait, or the owner's last request is not answered yet.
        """
        if owner in self._owners:
            raise QueueFullError("your last request is not answered yet; wait for it")
        if len(self._jobs) >= self._limit:
            raise QueueFullError(f"{len(self._jobs)} requests are waiting already; try again later")
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._jobs.append(_Waiting(job, result, owner))
        if owner is not None:
            self._owners.add(owner)
        self._come.set()
        try:
            return await result
        finally:
            self._owners.discard(owner)

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._come.wait()
            batch = [self._jobs.popleft() for _ in range(min(len(self._jobs), self._most))]
            if not self._jobs:
                self._come.clear()
            batch = [waiting for waiting in batch if not waiting.result.done()]
            if batch:
                await self._answer(batch)

    async def _answer(self, batch: Sequence[_Waiting[Job, Result]]) -> None:
        found: Sequence[Result | Exception]
        try:
            found = await asyncio.to_thread(self._work, [waiting.job for waiting in batch])
        except Exception as error:
            found = [error] * len(batch)
        for waiting, value in zip(batch, found, strict=True):
            if waiting.result.done():
                continue
            if isinstance(value, Exception):
                waiting.result.set_exception(value)
            else:
                waiting.result.set_result(value)
