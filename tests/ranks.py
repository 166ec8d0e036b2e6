"""Several processes for a test, forked from this one, that meet as under a launcher."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
import warnings
from collections.abc import Callable, Collection
from multiprocessing.connection import wait
from typing import Any

import torch

from trainer import distributed
from trainer.distributed import World

CPU = torch.device("cpu")


def run_ranks(work: Callable[[World], Any], size: int, doomed: Collection[int] = (), silence: float = 60.0) -> list[Any]:
    """What `work` returns in each of `size` processes, in the order of ranks; it must be plain values.

    Args:
        doomed: ranks that are killed in their work, or stop themselves. They return nothing, and nor need the others then.
        silence: seconds after which a process that hangs is found.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    context = multiprocessing.get_context("fork")  # importing everything anew would take longer than the test
    pipes = [context.Pipe(duplex=False) for _ in range(size)]
    workers = [
        context.Process(target=_run, args=(work, World(rank, size, rank, "test"), environment, pipes[rank][1], silence))
        for rank in range(size)
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
        for worker in workers:
            worker.start()
    for _, sender in pipes:
        sender.close()
    outcomes: list[tuple[bool, Any]] = [(False, None)] * size
    for rank in sorted(set(range(size)) - set(doomed)):
        wait([pipes[rank][0], workers[rank].sentinel])
        if not doomed or pipes[rank][0].poll():
            outcomes[rank] = pipes[rank][0].recv()
    for rank, worker in enumerate(workers):
        if rank in doomed:
            worker.kill()
        worker.join()
    for failed, what in outcomes:
        assert not failed, what
    return [what for _, what in outcomes]


def _run(work: Callable[[World], Any], world: World, environment: dict[str, str], sender: Any, silence: float) -> None:
    torch.set_num_threads(1)
    try:
        with distributed.group(world, CPU, environment, silence=silence):
            sender.send((False, work(world)))
    except BaseException:
        sender.send((True, traceback.format_exc()))
    finally:
        sender.close()
        os._exit(0)  # nothing of the test's own process is to be cleaned up here
