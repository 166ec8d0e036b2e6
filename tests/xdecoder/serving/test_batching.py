"""Requests that wait are computed together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from xdecoder.serving.batching import Batcher, QueueFullError


def squares(seen: list[int], go: threading.Event) -> Batcher[int, int]:
    """Squares numbers but 3, and remembers the sizes of its batches; its first batch waits for `go`."""

    def work(jobs: Sequence[int]) -> list[int | Exception]:
        seen.append(len(jobs))
        go.wait(5)
        return [ValueError("not three") if job == 3 else job * job for job in jobs]

    return Batcher(work, most=4, waiting=6)


def test_what_waits_is_one_batch_and_each_gets_its_own() -> None:
    seen: list[int] = []
    go = threading.Event()

    async def talk() -> list[object]:
        batcher = squares(seen, go)
        worker = asyncio.create_task(batcher.run())
        calls = [asyncio.create_task(batcher.submit(0))]
        await asyncio.sleep(0.05)
        calls += [asyncio.create_task(batcher.submit(n)) for n in range(1, 6)]
        await asyncio.sleep(0.05)
        assert len(batcher) == 5
        calls[2].cancel()
        go.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        worker.cancel()
        return results

    zero, one, given_up, three, four, five = asyncio.run(talk())
    assert (zero, one, four, five) == (0, 1, 16, 25)
    assert isinstance(given_up, asyncio.CancelledError) and str(three) == "not three"
    assert seen == [1, 3, 1], "the one alone, four that waited less the one that gave up, and the rest"


def test_a_queue_has_an_end() -> None:
    async def talk() -> None:
        batcher = squares([], threading.Event())
        calls = [asyncio.create_task(batcher.submit(n)) for n in range(6)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError, match="6 requests are waiting already"):
            await batcher.submit(7)
        for call in calls:
            call.cancel()

    asyncio.run(talk())


def test_a_batch_that_fails_does_not_stop_the_next() -> None:
    def work(jobs: Sequence[int]) -> list[int | Exception]:
        if 13 in jobs:
            raise RuntimeError("broken")
        return list(jobs)

    async def talk() -> None:
        batcher: Batcher[int, int] = Batcher(work)
        worker = asyncio.create_task(batcher.run())
        with pytest.raises(RuntimeError, match="broken"):
            await batcher.submit(13)
        assert await batcher.submit(1) == 1
        worker.cancel()

    asyncio.run(talk())


def test_an_owner_has_one_request_at_a_time_and_others_their_turn() -> None:
    order: list[int] = []

    def work(jobs: Sequence[int]) -> list[int | Exception]:
        order.extend(jobs)
        return list(jobs)

    async def talk() -> None:
        batcher: Batcher[int, int] = Batcher(work, most=1)
        first = asyncio.create_task(batcher.submit(1, "greedy"))
        other = asyncio.create_task(batcher.submit(2, "patient"))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError, match="your last request is not answered yet; wait for it"):
            await batcher.submit(3, "greedy")
        worker = asyncio.create_task(batcher.run())
        assert await first == 1
        assert await batcher.submit(4, "greedy") == 4 and await other == 2
        worker.cancel()

    asyncio.run(talk())
    assert order == [1, 2, 4], "the second question of one comes after the first of another"


def test_who_gives_up_may_ask_again() -> None:
    async def talk() -> int:
        batcher: Batcher[int, int] = Batcher(lambda jobs: list(jobs))
        given_up = asyncio.create_task(batcher.submit(1, "one"))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.sleep(0)
        worker = asyncio.create_task(batcher.run())
        answer = await batcher.submit(2, "one")
        worker.cancel()
        return answer

    assert asyncio.run(talk()) == 2
