"""Every command in docs/ is one that its program understands: options, choices, numbers, and the settings of experiments;
its Python runs.

README.md and demo/finetune_own_data.md are run from top to bottom elsewhere (`test_readme.py`, `test_own_data_walkthrough.py`),
docs/serving.md's Python by the tests of the export, and CONTRIBUTING.md's by `test_outside.py`.
"""

from __future__ import annotations

import argparse
import json
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.documents import LOOKED_AT, ROOT, blocks, look_at, program
from tests.tiny import tiny_model
from trainer.experiment import ExperimentConfig
from xdecoder.config import load
from xdecoder.inference.predictor import Predictor

PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
SHOWN_ONLY = {"mermaid", "yaml"}
ELSEWHERE = {"docs/serving.md": "python", "docs/page.md": "python"}  # in tests of their own


class Understood(BaseException):
    """A line has been read to its end, and its work would begin."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options


@contextmanager
def only_reading(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever parses a command line to its end raises `Understood` instead of going on."""
    depth = 0

    def stopping(parse: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(parse)
        def until_read(parser: argparse.ArgumentParser, *arguments: Any, **named: Any) -> Any:
            nonlocal depth
            depth += 1
            try:
                found = parse(parser, *arguments, **named)
            finally:
                depth -= 1
            if depth or (isinstance(found, tuple) and parser.prog != "xdecoder"):
                return found  # somebody reads on
            options, unknown = found if isinstance(found, tuple) else (found, [])
            assert not unknown, unknown
            raise Understood(options)

        return until_read

    with monkeypatch.context() as patch:
        for name in ("parse_args", "parse_known_args", "parse_intermixed_args"):
            patch.setattr(argparse.ArgumentParser, name, stopping(getattr(argparse.ArgumentParser, name)))
        yield


def understand(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(line)
    if words[0] in (*LOOKED_AT, "curl"):
        look_at(words)
        return
    script = words[1] if words[0] == "python" and words[1].startswith("demo/") else None
    with pytest.raises(Understood) as read, only_reading(monkeypatch):
        if script:
            monkeypatch.setattr(sys, "argv", words[1:])
            monkeypatch.syspath_prepend(str(ROOT / "demo"))
            runpy.run_path(str(ROOT / script), run_name="__main__")
        elif words[:2] == ["xdecoder", "train"]:
            import run

            run.main(words[2:])
        else:
            main, arguments = program(words)
            main(arguments)
    config = getattr(read.value.options, "config", None)
    if config and config.startswith("configs/"):
        load(ExperimentConfig, ROOT / config, read.value.options.settings)


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_understood(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for block in blocks(page, "sh"):
        for line in block.lines:
            understand(line, monkeypatch)
    for block in blocks(page, "json"):
        for server in json.loads(block.text)["mcpServers"].values():
            understand(shlex.join([server["command"], *server["args"]]), monkeypatch)


@pytest.mark.parametrize("page", PAGES)
def test_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a small `model` and pictures of the names that the page has."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"model": Predictor(tiny_model())}
    for block in blocks(page, *({"python"} - {ELSEWHERE.get(page)})):
        for name in re.findall(r'"([\w/-]+\.(?:jpg|png))"', block.text):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Image.effect_noise((96, 72), 80).convert("RGB").save(name)
        exec(compile(block.text, page, "exec"), names)


def test_what_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for line in ("xdecoder caption photo.jpg --checkpoint model.pt --beam", "xdecoder caption --chekpoint x photo.jpg"):
        with pytest.raises((AssertionError, SystemExit)):
            understand(line, monkeypatch)
    with pytest.raises(ValueError, match=r"unknown key 'trainer\.step'; did you mean 'steps'"):
        understand("python train.py configs/shapes/quickstart.yaml trainer.step=3", monkeypatch)


def test_no_block_is_forgotten() -> None:
    for page in PAGES:
        text = Path(ROOT / page).read_text(encoding="utf-8")
        languages = {line[3:].strip() for line in text.splitlines() if line.startswith("```") and line != "```"}
        assert languages <= {"sh", "json", "python", *SHOWN_ONLY}, page
