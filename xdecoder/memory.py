"""Memory: whether it ran out, which torch tells by errors of no kind of their own, and doing without its collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_SAID = ("out of memory", "allocate memory")  # of a GPU, of the machine


def ran_out(error: BaseException) -> bool:
    """Whether an error says that a GPU or the machine has too little memory."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID))


@contextmanager
def without_collector() -> Iterator[None]:
    """Nothing is looked through for garbage meanwhile, and so nothing finalized; the collector is as it was afterwards."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
