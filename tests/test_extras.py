"""Whoever installs one extra can run what it is for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import xdecoder
from tests.alone import COMMANDS, EXTRAS, PROJECT, closure
from tests.documents import ROOT, data_folder, work_folder

NO_COMMANDS = {"dev", "docs", "compare", "mpi", "wandb", "mlflow", "sweep", "pocket"}
"""For work on this repository, and what needs a service, other processes, hours or another package's data to run."""

CONDA = {"torch": "pytorch", "open_clip_torch": "open-clip-torch", "opencv-python-headless": "opencv"}
"""Packages that conda-forge has under another name."""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are copied, which Windows cannot do")
def test_each_extra_alone_runs_its_commands(tmp_path: Path) -> None:
    work_folder(tmp_path)
    data_folder(tmp_path)
    line = [sys.executable, str(ROOT / "tests/alone.py"), str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert not done.returncode, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.keys() == {"", *COMMANDS}
    wrong = [f"{extra or 'no extra'}: {told}" for extra, told in found.items() if told]
    assert not wrong, "\n".join(wrong)


def test_the_conda_recipe_says_the_same() -> None:
    recipe = (ROOT / "conda/meta.yaml").read_text(encoding="utf-8")
    assert f'set version = "{xdecoder.__version__}"' in recipe
    plain = recipe.replace("{% set", "# set").replace("{{ version }}", "0")
    needed = {Requirement(line) for line in (*PROJECT["dependencies"], *EXTRAS["train"])}
    wanted = {f"{CONDA.get(each.name, each.name)} {each.specifier}".strip() for each in needed}
    content = yaml.safe_load(plain)
    assert set(content["requirements"]["run"]) == {*wanted, f"python {PROJECT['requires-python']}"}
    assert content["build"]["entry_points"] == [f"{name} = {call}" for name, call in PROJECT["scripts"].items()]


def test_every_extra_is_looked_at() -> None:
    assert COMMANDS.keys() | NO_COMMANDS == EXTRAS.keys()


def test_extras_of_what_trains_bring_what_training_needs() -> None:
    for extra in ("web", "data", "metrics", "wandb", "mpi", "compare", "mlflow", "sweep"):
        assert {"opencv-python-headless", "pycocotools"} <= closure(EXTRAS[extra]), extra
