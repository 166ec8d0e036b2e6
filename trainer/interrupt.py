"""Stopping in order: a signal asks, the loop finishes its step and saves."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name))
"""The last is what Slurm is often asked to send before the end; Windows has none of the kind."""


class StopRequest:
    """Whether somebody has asked to stop."""

    def __init__(self) -> None:
        self.asked = False


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within the block SIGTERM, SIGUSR1 and the first Ctrl-C only set the request; a second Ctrl-C interrupts at once."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # signals reach the main thread only
        return
    owner, previous = os.getpid(), {number: signal.getsignal(number) for number in SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a loader's worker, forked with this handler
            if number == signal.SIGTERM:
                os._exit(0)
            return  # Ctrl-C reaches workers too, but the main process still needs their batches
        if request.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.asked = True

    try:
        for number in previous:
            signal.signal(number, handle)
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
