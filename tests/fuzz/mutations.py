"""How files are made wrong: bytes of any file, values of those that hold some."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

Draw = Callable[[Any], Any]

DIGITS = b"0123456789-.eE"
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.sampled_from([0, -1, 2**31, 10**7, 10**9]),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", "\x00", "\ud83d", "nan", "../../x", "os:system", "hf-hub:a/b", "x" * 5000]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4), max_leaves=8
)
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from(["flip", "cut", "repeat", "insert", "end", "digit"]),
        st.binary(min_size=1, max_size=12),
        st.integers(1, 400),
    ),
    min_size=1,
    max_size=4,
)
NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-(2**40), 2**40),
    st.sampled_from([float("nan"), float("inf"), 2e8, -1, 0, 1, 1e308, "7", None, True, [], [1, 2]]),
)
OUTLINES = st.one_of(
    st.lists(st.lists(NUMBERS, max_size=9), max_size=3),
    st.lists(NUMBERS, max_size=9),
    st.fixed_dictionaries(
        {
            "size": st.sampled_from([[48, 64], [64, 48], [1e9, 1], "48", [48], [2**31, 2**31]]),
            "counts": st.lists(NUMBERS, max_size=6),
        }
    ),
    st.fixed_dictionaries({"size": st.just([48, 64]), "counts": st.text(max_size=30)}),
    VALUES,
)


TIMES = int(os.environ.get("FUZZ", "1"))
"""How many times as many examples tests try: FUZZ=20 pytest tests/hostile."""


def fuzz(examples: int) -> settings:
    """Settings of one test: the same examples each time, and no deadline but our own."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=examples * TIMES, deadline=None, derandomize=True, database=None, suppress_health_check=checks)


def mutated(content: bytes, edits: list[tuple[float, str, bytes, int]]) -> bytes:
    for place, kind, data, length in edits:
        at = int(place * len(content))
        match kind:
            case "flip":
                content = content[:at] + data + content[at + len(data) :]
            case "cut":
                content = content[:at] + content[at + length :]
            case "repeat":
                content = content[:at] + content[at : at + length] * 3 + content[at + length :]
            case "insert":
                content = content[:at] + data + content[at:]
            case "end":
                content = content[:at]
            case "digit":  # which leaves text readable
                at = next((place for place in range(at, len(content)) if content[place : place + 1].isdigit()), at)
                content = content[:at] + DIGITS[length % len(DIGITS) :][:1] + content[at + 1 :]
    return content


def changed(content: Any, draw: Draw, values: Any = VALUES) -> Any:
    """A copy in which one value, somewhere, is another, or is gone."""
    if not isinstance(content, (dict, list)) or not content or draw(st.integers(0, 3)) == 0:
        return draw(values)
    copy: Any = dict(content) if isinstance(content, dict) else list(content)
    key = draw(st.sampled_from(sorted(copy, key=str)) if isinstance(copy, dict) else st.integers(0, len(copy) - 1))
    if draw(st.integers(0, 9)) == 0:
        copy.pop(key)
    else:
        copy[key] = changed(copy[key], draw, values)
    return copy
