"""Class names, phrases and numbers, checked where they enter, whoever hands them over: Python, command line, page or files."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence, Set

import numpy as np

from xdecoder.files import shown

MAX_TEXTS = 100_000  # ImageNet has 21 841 classes
MAX_LENGTH = 1_000  # characters of one; a text encoder reads some 300

_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff\ufeff]")
"""Neither written by people nor readable; halves of characters; a byte order mark."""
_BREAKS = re.compile("[\t-\r\x85\u2028\u2029]")


def checked(given: Collection[str], what: str, least: int = 1) -> tuple[str, ...]:
    """The texts as a tuple, as they stand; `what` is the argument's name, such as "phrases", and `least` how many it needs.

    Raises:
        ValueError: for no list, an empty one, or an item that is no text, blank, too long or not writable.
    """
    if isinstance(given, (str, bytes, Mapping, Set)) or not isinstance(given, Collection):
        raise ValueError(f"{what} must be a list of texts, such as ['cat', 'sofa'], not {shown(given)}")
    if len(given) < least:
        raise ValueError(f"{what} must hold at least one text")
    if len(given) > MAX_TEXTS:
        raise ValueError(f"{what} must hold at most {MAX_TEXTS} texts")
    texts = tuple(given)
    for number, text in enumerate(texts):
        fault = _fault(text)
        if fault:
            raise ValueError(f"{what}[{number}] {fault}: {shown(text)}")
    return texts


def check_name(name: str) -> None:
    """Raises ValueError for what no class can be called: as `checked`, and on one line."""
    fault = _fault(name) or ("holds a line break or tab" if _BREAKS.search(name) else "")
    if fault:
        raise ValueError(f"a class name {fault}: {shown(name)}")


def check_distinct(names: Sequence[str]) -> None:
    """Raises ValueError for class names that the network would read alike: it reads small letters."""
    seen: dict[str, str] = {}
    for number, name in enumerate(names):
        other = seen.setdefault(name.casefold(), name)
        if len(seen) <= number:
            told = "stands more than once" if other == name else f"and {shown(name)} are read alike"
            raise ValueError(f"class names must differ, but {shown(other)} {told}")


def check_number(value: float, what: str, whole: bool = False) -> None:
    """Raises ValueError, naming the argument, for what is no finite (whole) number."""
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
        raise ValueError(f"{what} must be a {'whole' if whole else 'finite'} number, not {shown(value)}")


def _fault(text: object) -> str:
    if not isinstance(text, str):
        return f"is {type(text).__name__} and not text"
    if control := _CONTROL.search(text):
        return f"holds a character that cannot be read (U+{ord(control[0]):04X})"
    if not any(letter.isprintable() and not letter.isspace() for letter in text):
        return "is blank"
    return f"is {len(text)} characters long, more than {MAX_LENGTH}" if len(text) > MAX_LENGTH else ""
