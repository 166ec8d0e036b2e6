"""results.json of a run folder: one flat object to which every stage adds its figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from xdecoder.files import read_json, write_json

FILE = "results.json"


def record(run_folder: str | Path, figures: Mapping[str, float]) -> None:
    """Merge `figures` into the run folder's results.json, atomically; a figure that is not a number is written as null."""
    path = Path(run_folder) / FILE
    plain = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    write_json(path, {**read(run_folder), **plain})


def read(run_folder: str | Path) -> dict[str, float | None]:
    """What results.json holds so far; nothing if there is none. Raises ValueError if it is not a JSON object."""
    path = Path(run_folder) / FILE
    if not path.exists():
        return {}
    figures = read_json(path)
    if not isinstance(figures, dict):
        raise ValueError(f"{path}: expected an object of figures, found {type(figures).__name__}")
    return figures
