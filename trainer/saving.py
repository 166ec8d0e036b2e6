"""The rest of saving a state, beside the training."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from trainer.checkpointing import Rest

logger = logging.getLogger(__name__)


class Saving:
    """Does the rest of saving a state in a thread, one at a time. As a context it leaves none behind.

    One that fails replaces nothing and is told as a warning; the next one is waited for, and ends the run if it fails, too.
    """

    def __init__(self) -> None:
        self._running: Future[None] | None = None
        self._failed = False  # the last one

    def begin(self, rest: Rest) -> None:
        """Do the rest of one, the one before being settled. Raises OSError if it is the second in a row that fails."""
        assert self._running is None
        worker = ThreadPoolExecutor(1, "saving")
        self._running = worker.submit(rest)
        worker.shutdown(wait=False)
        if self._failed:
            self.finish()
            self._failed = False

    def finish(self) -> None:
        """Wait for it; raises OSError if it fails."""
        running = self._running
        if running is None:
            return
        try:
            running.result()
        finally:
            if self._running is running:
                self._running = None

    def settle(self, wait: bool = True) -> None:
        """Wait for it, or without `wait` see whether it is over; a failure is told, and the next may do better."""
        if self._running is None or not (wait or self._running.done()):
            return
        try:
            self.finish()
        except OSError as error:
            self._failed = True
            logger.warning("%s", error)

    def __enter__(self) -> Saving:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.settle()
