"""Mutated files of every kind that people hand in: a few here, thousands with `python -m tests.fuzz`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.attempts import Tally, attempt, try_kind
from tests.fuzz.kinds import KINDS, Kind, any_bytes, written

EXAMPLES = 12


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_read_or_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    tally = try_kind(name, tmp_path, EXAMPLES)
    assert tally.accepted + tally.refused >= EXAMPLES


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        (UnicodeError("x"), "not ours"),
        (ValueError("one\ntwo"), "one\ntwo"),
        (ValueError("x" * 2000), "xxx"),
        (ValueError("of no file"), "neither the file is named"),
    ],
)
def test_what_is_no_sentence_is_found(error: Exception, complaint: str, tmp_path: Path) -> None:
    kind = Kind(written("a.txt", b""), any_bytes, lambda path: _raise(error))
    with pytest.raises(AssertionError, match=complaint):
        attempt(kind, tmp_path / "a.txt", b"", Tally())
