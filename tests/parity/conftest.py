"""The published network's recorded numbers; tests that ask for them are skipped where they are absent."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def _as_recorded() -> Iterator[None]:
    """The order of sums in which the numbers were recorded. In another one the sign of a mask's logit may flip at its rim,
    which opens or closes a place to a query and moves all that follows by more than the tolerance."""
    threads, library = torch.get_num_threads(), torch.backends.mkldnn.enabled
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False
    yield
    torch.set_num_threads(threads)
    torch.backends.mkldnn.enabled = library


@pytest.fixture(scope="session")
def oracle(shared: Path) -> Path:
    folder = shared / "oracle"
    if not folder.is_dir():
        pytest.skip(f"the published network's numbers are not there: {folder}")
    return folder


@pytest.fixture(scope="session")
def seeded(oracle: Path) -> ModuleType:
    """The rule that fills any state dictionary with the values behind the recorded numbers."""
    spec = importlib.util.spec_from_file_location("seeded", oracle / "seeded.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Networks of the published sizes take seconds each."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
