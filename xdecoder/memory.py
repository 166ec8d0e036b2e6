"""Whether memory ran out, which torch tells by errors of no kind of their own."""

from __future__ import annotations

_SAID = ("out of memory", "allocate memory")  # of a GPU, of the machine


def ran_out(error: BaseException) -> bool:
    """Whether an error says that a GPU or the machine has too little memory."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID))
