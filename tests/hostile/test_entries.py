"""Nonsense at every entry ends with a status and a sentence, within bounds of time and memory, and never with a traceback."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import resource
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tiny import tiny_model
from trainer import checkpointing
from xdecoder import checkpoint, cli
from xdecoder.inspection import inspect

SECONDS, GIBIBYTES = 60, 6
FUZZ = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)


def bounded(work: Callable[[], str]) -> str:
    """What `work` returns in a child that may use so much processor time and memory and no more; a fault that it raises."""
    listen, speak = os.pipe()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.close(listen)
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (taken + GIBIBYTES * 2**30,) * 2)
            os.write(speak, work().encode(errors="replace")[:60_000])
        except BaseException as error:
            os.write(speak, f"FAULT {type(error).__name__}: {error}".encode(errors="replace")[:60_000])
        finally:
            os._exit(0)
    os.close(speak)
    with os.fdopen(listen, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"FAULT killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return said


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
        ("a.b.c.d=1", "a"),
        ("=", "="),
    ],
)
def test_settings_of_an_experiment(root: Path, name: str, setting: str, sentence: str) -> None:
    said = command(script(root, name).main, [str(root / "configs" / "shapes" / "quickstart.yaml"), setting])
    assert said.startswith("2 error: ") and sentence in said and said.count("\n") == 1


@FUZZ
@given(
    words=st.lists(
        st.sampled_from(["segment", "caption", "inspect", "export", "--beams", "--tile", "--out", "@", "--", "-1"])
        | st.text(max_size=9)
    )
)
def test_any_words_at_the_command(words: list[str]) -> None:
    said = bounded(lambda: command(cli.main, words))
    assert not said.startswith("FAULT"), said


@FUZZ
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


@FUZZ
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
        content = bytearray(checkpointing.save(state, tmp_path, 1, 1).read_bytes())
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
