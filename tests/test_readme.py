"""Every command and every line of Python that README prints runs, from top to bottom, on small networks and sets."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import datasets.catalog
from datasets.spec import Counts
from tests.documents import ROOT, blocks, data_folder, run, work_folder
from xdecoder import download

PAGE = "README.md"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    work_folder(tmp_path)
    data_folder(tmp_path)
    shutil.copytree(ROOT / "demo/photos", tmp_path / "demo/photos")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(download, "_cache", lambda: tmp_path)  # where the published file lies already, made small
    small = {
        name: spec.model_copy(update={"count": None, "counts": Counts()}) for name, spec in datasets.catalog.CATALOG.items()
    }
    monkeypatch.setattr(datasets.catalog, "CATALOG", small)
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # gradio's event loops
def test_the_page_from_top_to_bottom(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in blocks(PAGE, "sh", "python"):
        if block.language == "python":
            exec(compile(block.text, PAGE, "exec"), names)
            continue
        for line in block.lines:
            assert run(line) == 0, f"{line}\\n{capsys.readouterr().err}"


def test_files_that_the_pages_link_to_are_there() -> None:
    pages = [ROOT / PAGE, ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "demo").glob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
