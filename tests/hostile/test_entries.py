"""Nonsense at every entry ends with a status and a sentence, within bounds of time and memory, and never with a traceback."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import io
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.mutations import fuzz
from tests.hostile.bounds import bounded
from tests.tiny import tiny_model
from trainer import checkpointing
from trainer.commands import guarded
from xdecoder import checkpoint, cli
from xdecoder.arguments import number, whole
from xdecoder.inspection import inspect


def command(main: Callable[[list[str]], int], arguments: list[str]) -> str:
    """Exit status and what stands on the standard error; 0 and 2 are what a command may end with."""
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
        try:
            status: object = main(arguments)
        except SystemExit as end:
            status = end.code
    assert status in (0, 2, None), f"status {status}"
    assert "Traceback" not in told.getvalue()
    return f"{status} {told.getvalue()}"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """A forked child would wait for ever for threads of the process that it comes from."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "model.pt"
    checkpoint.save(tiny_model(), path, origin={"steps": 1})
    return path


def script(root: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"hostile_{name}", root / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--device", "x", "expected cpu, cuda, cuda:1 or mps, not 'x'"),
        ("--device", "cuda:99", "usable GPU"),
        ("--beams", "0", "expected a whole number from 1 to 64, not '0'"),
        ("--beams", "1000000000", "expected a whole number from 1 to 64"),
        ("--beams", "1.5", "expected a whole number from 1 to 64"),
        ("--region", "nowhere.png", "nowhere.png: no such"),
    ],
)
def test_options_of_the_command(network: Path, root: Path, option: str, value: str, sentence: str) -> None:
    photo = str(root / "docs" / "quickstart.png")
    said = command(cli.main, ["caption", photo, "--checkpoint", str(network), option, value])
    assert said.startswith("2 error: ") and sentence in said and said.count("\n") == 1


@pytest.mark.parametrize("value", ["2", "-0.1", "nan", "inf", "1e999", "x", ""])
def test_thresholds(network: Path, root: Path, value: str) -> None:
    photo = str(root / "docs" / "quickstart.png")
    said = command(cli.main, ["instances", photo, "--classes", "a", "--checkpoint", str(network), f"--threshold={value}"])
    assert said.startswith("2 error: ") and f"expected a number from 0 to 1, not {value!r}" in said


@pytest.mark.parametrize("name", ["train", "eval"])
@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("seed=1180591620717411303424", "a whole number of more than 64 bits"),
        ("seed=4294967296", "key 'seed': input should be less than 4294967296"),
        ("seed=-1", "key 'seed': input should be greater than or equal to 0"),
        ("output=''", "key 'output': expected the path of a folder"),
        ("output='  '", "key 'output': expected the path of a folder"),
        ("trainer.steps=0", "trainer.steps"),
        ("trainer.silence_seconds=0", "trainer.silence_seconds"),
        ("trainer.device=cuda:7", "trainer.device"),
        ("trainer.learning_rate=.inf", "key 'trainer.learning_rate': input should be a finite number"),
        ("trainer.silence_seconds=1e300", "trainer.silence_seconds"),
        ("data.train.0.loss_weight=-1", "loss_weight"),
        ("data.train.0.batch_size=1000000000000", "batch_size"),
        ("tasks.segmentation.points=1000000000000", "points"),
        ("output=/", "key 'output': expected the path of a folder of its own"),
        ("output=.", "key 'output': expected the path of a folder of its own"),
        ("a.b.c.d=1", "a"),
        ("=", "="),
    ],
)
def test_settings_of_an_experiment(root: Path, name: str, setting: str, sentence: str) -> None:
    said = command(script(root, name).main, [str(root / "configs" / "shapes" / "quickstart.yaml"), setting])
    assert said.startswith("2 error: ") and sentence in said and said.count("\n") == 1


QUESTIONS = ("segment", "panoptic", "instances", "caption", "edit", "serve-mcp", "serve-http", "export")
ENTRIES = (
    *("train", "eval", "eval measure", "eval score", "datasets.check", "datasets.prepare shapes", "trainer.report"),
    *("xdecoder", *(f"xdecoder {name}" for name in QUESTIONS)),
)


@pytest.mark.parametrize("entry", ENTRIES)
def test_no_option_takes_just_any_number(root: Path, monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    """Every number has bounds, so that --beams 1e9, --threshold nan and --side -1 are refused before anything is loaded."""
    name, *words = entry.split()
    taken, add = [], argparse._ActionsContainer.add_argument

    def watched(self: Any, *names: str, **settings: Any) -> Any:
        taken.append((names, settings.get("type")))
        return add(self, *names, **settings)

    monkeypatch.setattr(argparse._ActionsContainer, "add_argument", watched)
    scripts = ("train", "eval")
    main = cli.main if name == "xdecoder" else (script(root, name) if name in scripts else module_of(name)).main
    assert command(main, [*words, "--help"]).startswith("0 ")
    assert taken
    assert [names for names, kind in taken if kind in (int, float)] == []


def module_of(name: str) -> ModuleType:
    return importlib.import_module(f"{name}.__main__")


@pytest.mark.parametrize(
    ("kind", "text"),
    [(kind, text) for kind in (whole(1, 64), number(0, 1)) for text in ("", "x", "nan", "inf", "-1", "1e9", str(2**70), "٣")],
)
def test_numbers_with_bounds(kind: Callable[[str], float], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"^expected a .*number from \d+ to \d+, not "):
        kind(text)


@pytest.mark.parametrize("ask", [torch.empty, np.empty])
def test_too_little_memory(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ask: Callable[[int], Any]
) -> None:
    assert guarded(lambda: ask(10**15)) == 2
    assert capsys.readouterr().err.startswith("error: this machine has too little memory; lower batch_size")
    monkeypatch.setattr("xdecoder.cli.commands.list_weights", lambda options: ask(10**15))
    assert command(cli.main, ["weights"]) == "2 error: out of memory; try --half, --tile 1024 or --device cpu\n"


@fuzz(25)
@given(
    words=st.lists(
        st.sampled_from(["segment", "caption", "inspect", "export", "--beams", "--tile", "--out", "@", "--", "-1"])
        | st.text(max_size=9)
    )
)
def test_any_words_at_the_command(words: list[str]) -> None:
    said = bounded(lambda: command(cli.main, words))
    assert not said.startswith("FAULT"), said


@fuzz(25)
@given(
    setting=st.text(max_size=30)
    | st.tuples(st.sampled_from(["seed", "output", "trainer", "data.train", "model", "weights"]), st.text(max_size=20)).map(
        "=".join
    )
)
def test_any_setting_of_an_experiment(root: Path, setting: str) -> None:
    module, config = script(root, "eval"), str(root / "configs" / "shapes" / "quickstart.yaml")
    said = bounded(
        lambda: command(
            module.main, [config, "output=/nowhere/run", "data.root=/nowhere", "--checkpoint", "/nowhere/x", setting]
        )
    )
    assert said.startswith("2 "), said


@fuzz(25)
@given(edits=st.lists(st.tuples(st.floats(0, 0.9999), st.integers(0, 255)), min_size=1, max_size=4), cut=st.floats(0.01, 1))
@pytest.mark.parametrize("kind", ["network", "state"])
def test_files_with_any_bytes_changed(
    tmp_path: Path, network: Path, kind: str, edits: list[tuple[float, int]], cut: float
) -> None:
    """What is read is what was written, or one sentence is said."""
    path = tmp_path / ("model.pt" if kind == "network" else "step_00000001.pt")
    if kind == "network":
        content = bytearray(network.read_bytes())
    else:
        state = dict.fromkeys([*checkpointing.KEYS, *checkpointing.WHOLE]) | {"step": 1, "model": {"a": torch.arange(1000.0)}}
        checkpointing.save(state, tmp_path, 1, 1)()
        content = bytearray(path.read_bytes())
    for share, value in edits:
        content[int(len(content) * share)] = value
    path.write_bytes(content[: max(1, int(len(content) * cut))])

    def read() -> str:
        try:
            found = checkpoint.read(path)
            inspect(path)
        except ValueError as error:
            return "refused" if "\n" not in str(error) else repr(error)
        weights = found["model"]
        expected = tiny_model().state_dict() if kind == "network" else {"a": torch.arange(1000.0)}
        assert all(torch.equal(weights[name], value) for name, value in expected.items()), "read something else"
        return "read"

    said = bounded(read)
    assert said in ("refused", "read"), said
