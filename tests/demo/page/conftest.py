"""A real browser for the tests of the page."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium, Debian's or playwright's own; tests that need it are skipped where there is none.

    It is led by an event loop that runs in this thread until the module's last test has ended: others need their own then.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="a browser is led by playwright, which is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    with playwright.sync_playwright() as driver:
        if path is None and not Path(driver.chromium.executable_path).exists():
            pytest.skip("there is no Chromium (apt install chromium, or playwright install chromium)")
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
    gc.collect()  # event loops that the driver leaves open go here, where warnings about them fail no test
