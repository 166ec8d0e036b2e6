"""Several processes for a test, forked from this one, that meet as under a launcher."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import torch

from trainer import distributed
from trainer.distributed import World

CPU = torch.device("cpu")


def run_ranks(work: Callable[[World], Any], size: int) -> list[Any]:
    """What `work` returns in each of `size` processes, in the order of ranks; it must be plain values."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    context = multiprocessing.get_context("fork")  # importing everything anew would take longer than the test
    pipes = [context.Pipe(duplex=False) for _ in range(size)]
    workers = [
        context.Process(target=_run, args=(work, World(rank, size, rank, "test"), environment, pipes[rank][1]))
        for rank in range(size)
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
        for worker in workers:
            worker.start()
    for _, sender in pipes:
        sender.close()
    outcomes = [receiver.recv() for receiver, _ in pipes]
    for worker in workers:
        worker.join()
    for failed, what in outcomes:
        assert not failed, what
    return [what for _, what in outcomes]


def _run(work: Callable[[World], Any], world: World, environment: dict[str, str], sender: Any) -> None:
    torch.set_num_threads(1)
    try:
        with distributed.group(world, CPU, environment):
            sender.send((False, work(world)))
    except BaseException:
        sender.send((True, traceback.format_exc()))
    finally:
        sender.close()
        os._exit(0)  # nothing of the test's own process is to be cleaned up here
