"""What every test can ask for."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

ROOT = Path(__file__).resolve().parent.parent
CHECKED = (
    "xdecoder.decoder.attention",
    "xdecoder.decoder.heads",
    "xdecoder.losses",
    "xdecoder.model",
    "xdecoder.ops.points",
    "xdecoder.postprocessing",
)
"""Modules whose shapes are checked at each call, in tests only."""


def check_shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Types and shapes of arguments and result, but not in a graph that is compiled or exported, which serves many shapes."""
    if not any("[Tensor, " in str(annotation) for annotation in function.__annotations__.values()):
        return function
    checked = beartype(conf=BeartypeConf(is_pep484_tower=True))(function)  # a whole number is a float too

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        return (function if torch.compiler.is_compiling() else checked)(*arguments, **named)

    return call


install_import_hook(CHECKED, "tests.conftest.check_shapes")  # before any test imports them


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    """Timings and sums stay alike on small and large machines."""
    torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(autouse=True)
def seed() -> int:
    """Every test starts from the same torch seed, which it may also ask for."""
    torch.manual_seed(0)
    return 0


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout's top folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material beside the checkout; tests that need it are skipped where it is absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"reference material is not there: {folder}")
    return folder
