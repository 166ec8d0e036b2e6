"""What pip installs: the library, and the rooms inside of it, where they shadow nobody."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from xdecoder import rooms


def test_the_wheel_holds_the_rooms_inside_the_library(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setuptools = pytest.importorskip("setuptools", reason="reads setup.py as pip does")
    said: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", said.update)
    monkeypatch.chdir(root)
    runpy.run_path("setup.py")
    command = said["cmdclass"]["build_py"](setuptools.Distribution({**said, "script_name": "pip"}))
    command.ensure_finalized()
    modules = {f"{package}.{name}": Path(file) for package, name, file in command.find_all_modules()}
    assert {name.partition(".")[0] for name in modules} == {"xdecoder"}
    scripts = {name.removeprefix("xdecoder._rooms.") for name in modules if name.count(".") == 2 and "_rooms" in name}
    assert scripts == {"train", "eval", "run"}, "and neither setup.py nor what is lying about"
    for module, _ in rooms.COMMANDS.values():
        assert f"xdecoder._rooms.{module}" in modules, module
    for path in [*(root / "datasets").rglob("*.py"), *(root / "trainer").rglob("*.py"), *(root / "xdecoder").rglob("*.py")]:
        assert path.relative_to(root) in modules.values(), path
    packed = {f"{folder}/{name}" for _, folder, _, files in command.data_files for name in files}
    experiments = {path.relative_to(root).as_posix() for path in (root / "configs").rglob("*.yaml")}
    assert {name for name in packed if name.endswith(".yaml")} == experiments
    assert {"xdecoder/language/vocabularies/vqa_answers.json", "xdecoder/py.typed"} <= packed
    assert all(name.startswith(("xdecoder/", "configs/", "datasets/", "trainer/")) for name in packed), packed
