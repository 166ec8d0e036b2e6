"""Mutated files of every kind that people hand in: each is read, or refused in one sentence, in little time and memory.

`FUZZ=20 pytest tests/fuzz` tries twenty times as many.
"""

from __future__ import annotations

import io
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xdecoder
from datasets.predictions import read_rows
from tests.tiny import tiny_config, tiny_model
from trainer.experiment import ExperimentConfig
from xdecoder import checkpoint
from xdecoder.config import ConfigError, load
from xdecoder.files import FileError, read_json, read_lines
from xdecoder.published import checkpoints
from xdecoder.types import Vocabulary

TIMES = int(os.environ.get("FUZZ", "1"))
MEMORY = 1 << 20  # kB that a file may cost
SECONDS = 5.0


def fuzz(examples: int) -> settings:
    """Settings of one test: the same examples each time, and no deadline but our own."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=examples * TIMES, deadline=None, derandomize=True, database=None, suppress_health_check=checks)


@contextmanager
def read_or_refused(path: Path) -> Iterator[None]:
    """Anything but a sentence is raised on, as an error of the test."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    refused: ValueError | None = None
    try:
        yield
    except ValueError as error:
        refused = error
    if refused:
        said = str(refused)
        assert type(refused) in (ValueError, ConfigError, FileError), f"not ours: {refused!r}"
        assert "\n" not in said and len(said) < 1200 and said.isprintable(), said
        assert str(path.parent) in said, f"neither the file is named nor one that it names: {said}"
    assert time.process_time() - start < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.sampled_from([0, -1, 2**31, 10**7, 10**9]),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", "\x00", "\ud83d", "nan", "../../x", "os:system", "hf-hub:a/b", "x" * 5000]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4), max_leaves=8
)
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from(["flip", "cut", "repeat", "insert", "end"]),
        st.binary(min_size=1, max_size=12),
        st.integers(1, 400),
    ),
    min_size=1,
    max_size=4,
)


def mutated(content: bytes, edits: list[tuple[float, str, bytes, int]]) -> bytes:
    for place, kind, data, length in edits:
        at = int(place * len(content))
        match kind:
            case "flip":
                content = content[:at] + data + content[at + len(data) :]
            case "cut":
                content = content[:at] + content[at + length :]
            case "repeat":
                content = content[:at] + content[at : at + length] * 3 + content[at + length :]
            case "insert":
                content = content[:at] + data + content[at:]
            case "end":
                content = content[:at]
    return content


def changed(content: Any, draw: Callable[[Any], Any], values: Any = VALUES) -> Any:
    """A copy in which one value, somewhere, is another, or is gone."""
    if not isinstance(content, (dict, list)) or not content or draw(st.integers(0, 3)) == 0:
        return draw(values)
    copy: Any = dict(content) if isinstance(content, dict) else list(content)
    key = draw(st.sampled_from(sorted(copy, key=str)) if isinstance(copy, dict) else st.integers(0, len(copy) - 1))
    if draw(st.integers(0, 9)) == 0:
        copy.pop(key)
    else:
        copy[key] = changed(copy[key], draw, values)
    return copy


def _ours() -> dict[str, Any]:
    model = tiny_model()
    settings = {"config": model.config.model_dump(mode="json"), "protocol": model.protocol.model_dump(mode="json")}
    return {"format": checkpoint.FORMAT, **settings, "origin": {"seed": 1}, "model": model.state_dict()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder, model = tmp_path_factory.mktemp("files"), tiny_model()
    checkpoint.save(model, folder / "a.pt")
    checkpoint.save(model, folder / "a.safetensors")
    checkpoints.save(model, folder / "published.pt")
    torch.save(_ours(), folder / "old.pt", _use_new_zipfile_serialization=False)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "old.pt", "published.pt"])
@fuzz(25)
@given(edits=EDITS)
def test_bytes_of_checkpoints(written: dict[str, bytes], tmp_path: Path, name: str, edits: Any) -> None:
    path = tmp_path / name
    path.write_bytes(mutated(written[name], edits))
    with read_or_refused(path):
        xdecoder.load(path)


TENSORS = st.one_of(
    VALUES,
    st.sampled_from(
        [
            torch.zeros(3),
            torch.zeros(9, 32, dtype=torch.int64),
            torch.full((9, 32), float("nan")),
            torch.zeros(9, 32, device="meta"),
            torch.zeros(9, 32).to_sparse(),
            torch.zeros(1).expand(10**12),
            torch.zeros(10**12, 0),
        ]
    ),
)


@fuzz(60)
@given(data=st.data())
def test_content_of_checkpoints(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.pt"
    content = changed(_ours(), data.draw, TENSORS)
    file = io.BytesIO()
    torch.save(content, file)
    path.write_bytes(file.getvalue())
    with read_or_refused(path):
        xdecoder.load(path)
    with read_or_refused(path):
        checkpoints.initialise(tiny_model(), path)


YAML = """
base: base.yaml
data: {root: data, train: [{dataset: shapes_train, tasks: [segmentation, referring], batch_size: 4}], workers: 2}
model:
  backbone: {name: focal, width: 16, depths: [1, 1, 1, 1]}
  decoder: &d {queries: 9, layers: 4}
trainer: {steps: 10, learning_rate: 1e-4, evaluate_every: 5}
output: "runs/a"
"""


@fuzz(120)
@given(edits=EDITS)
def test_bytes_of_configurations(tmp_path: Path, edits: Any) -> None:
    path = tmp_path / "a.yaml"
    (tmp_path / "base.yaml").write_text("seed: 1\n")
    path.write_bytes(mutated(YAML.encode(), edits))
    with read_or_refused(path):
        load(ExperimentConfig, path)


@fuzz(120)
@given(data=st.data())
def test_content_of_configurations(root: Path, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.yaml"
    settings = {
        "data": {"train": [{"dataset": "shapes_train", "tasks": ["segmentation"], "batch_size": 4}], "evaluate": []},
        "model": tiny_config().model_dump(mode="json"),
        "trainer": {"steps": 10, "learning_rate": 1e-4, "lora": {"rank": 2}},
        "tasks": {"segmentation": {"points": 9}},
        "output": "runs/a",
    }
    path.write_text(json.dumps(changed(settings, data.draw)))  # JSON is YAML
    with read_or_refused(path):
        load(ExperimentConfig, path)


@fuzz(150)
@given(edits=EDITS, encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]))
def test_bytes_of_class_lists(tmp_path: Path, edits: Any, encoding: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(mutated("star\r\n  ring\n\nHäuschen\ta\nblue sky\n".encode(encoding), edits))
    with read_or_refused(path):
        names = read_lines(path)
        assert all(name and name == name.strip() for name in names)
        try:
            Vocabulary(tuple(names), (True,) * len(names))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


ROWS = [
    {"image_id": i, "category_id": 1, "score": 0.5, "segmentation": {"size": [4, 6], "counts": [24]}, "caption": "a"}
    for i in range(3)
]


@fuzz(120)
@given(data=st.data(), kind=st.sampled_from(["instances.json", "captions.json", "panoptic.json", "classes.json"]))
def test_content_of_predictions(tmp_path: Path, data: st.DataObject, kind: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(changed(ROWS, data.draw)))
    with read_or_refused(path):
        read_rows(path, kind, {0, 1, 2})


@fuzz(120)
@given(edits=EDITS)
def test_bytes_of_json(tmp_path: Path, edits: Any) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(mutated(json.dumps(ROWS).encode(), edits))
    with read_or_refused(path):
        read_json(path)
