"""Both notebooks run from top to bottom, on small networks and for few steps."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import run
from tests.documents import ROOT, work_folder
from tests.sources import tree_of

pytestmark = pytest.mark.slow

FEW = '["trainer.steps=2", "trainer.device=cpu", "data.train.0.batch_size=2"]'


def cells(name: str) -> list[str]:
    content = json.loads((ROOT / f"demo/notebooks/{name}.ipynb").read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("name", ["use", "fine_tune"])
def test_every_cell_runs_and_shows_something(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_folder(tmp_path)
    shutil.copytree(ROOT / "demo/photos", tmp_path / "demo/photos")
    monkeypatch.chdir(tmp_path)
    for setting, config in (("SMALL", "own_data_small"), ("CLASSES", "own_classes_small"), ("LARGE", "own_data")):
        monkeypatch.setattr(run, setting, tmp_path / f"configs/finetune/{config}.yaml")
    names: dict[str, Any] = {}
    for source in cells(name):
        *statements, last = tree_of(source.replace("SETTINGS = []", f"SETTINGS = {FEW}").replace("images=60", "images=12")).body
        assert isinstance(last, ast.Expr), "a cell ends with what it shows"
        exec(compile(ast.Module(statements, []), name, "exec"), names)
        shown = eval(compile(ast.Expression(last.value), name, "eval"), names)
        assert repr(shown)
        if hasattr(shown, "_repr_png_"):
            assert shown._repr_png_().startswith(b"\x89PNG")
