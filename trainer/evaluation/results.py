"""What a run folder says of its scores: results.json, one flat object to which every stage adds its figures, and the record."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from xdecoder.files import read_json, write_json

FILE = "results.json"
RECORD = "evaluation.json"
PACKAGES = ("torchvision", "timm", "numpy", "pillow", "pycocotools", "open_clip_torch", "pycocoevalcap")


def record(run_folder: str | Path, figures: Mapping[str, float]) -> None:
    """Merge `figures` into the run folder's results.json, atomically; a figure that is not a number is written as null."""
    path = Path(run_folder) / FILE
    write_json(path, {**read(run_folder), **_plain(figures)})


def read(run_folder: str | Path) -> dict[str, float | None]:
    """What results.json holds so far; nothing if there is none. Raises ValueError if it is not a JSON object."""
    path = Path(run_folder) / FILE
    if not path.exists():
        return {}
    figures = read_json(path)
    if not isinstance(figures, dict):
        raise ValueError(f"{path}: expected an object of figures, found {type(figures).__name__}")
    return figures


def write_record(run_folder: str | Path, content: Mapping[str, Any]) -> Path:
    """Write evaluation.json: all that somebody needs to know who wants to trust or to repeat the scores."""
    path = Path(run_folder) / RECORD
    write_json(path, {"versions": versions(), **_plain(content)})
    return path


def versions() -> dict[str, str | None]:
    """Of Python, of this project and of the packages on which scores depend; None where one is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for name in ("xdecoder", *PACKAGES):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def _plain(tree: Any) -> Any:
    """The tree with null in the place of numbers that JSON does not have."""
    if isinstance(tree, Mapping):
        return {key: _plain(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_plain(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
