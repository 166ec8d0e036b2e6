from __future__ import annotations

from pathlib import Path

import pytest

from trainer.evaluation.results import read, record


def test_figures_are_merged(tmp_path: Path) -> None:
    record(tmp_path / "run", {"a/PQ": 1.0, "b/AP": 2.0})
    record(tmp_path / "run", {"b/AP": 3.0, "c/AP": float("nan")})
    assert read(tmp_path / "run") == {"a/PQ": 1.0, "b/AP": 3.0, "c/AP": None}


def test_a_file_of_something_else_is_kept_and_named(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"results\.json: expected an object of figures, found list"):
        record(tmp_path, {"a": 1.0})
    assert (tmp_path / "results.json").read_text() == "[1]"
