"""The published network's recorded numbers; tests that ask for them are skipped where they are absent."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


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
