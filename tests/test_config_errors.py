"""The one reader of YAML: what it takes, and the one sentence it says otherwise."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from xdecoder.config import Config, ConfigError, load, merge, parse, read_yaml


class Crop(Config):
    name: Literal["crop"] = "crop"
    size: int = 1024


class Edge(Config):
    name: Literal["edge"] = "edge"
    length: int = Field(640, gt=0)


class Stream(Config):
    dataset: str
    tasks: tuple[Literal["segmentation", "referring"], ...] = ()
    transform: Annotated[Crop | Edge, Field(discriminator="name")] = Crop()


class Optimiser(Config):
    steps: int = 3
    learning_rate: float = 1e-4
    warmup: Edge | None = None


class Experiment(Config):
    trainer: Optimiser = Optimiser()
    train: tuple[Stream, ...] = ()
    by_name: dict[str, Stream] = {}
    output: Path = Path("runs")


@pytest.fixture
def read(tmp_path: Path):
    def read(text: str, *overrides: str) -> Experiment:
        path = tmp_path / "experiment.yaml"
        path.write_text(text)
        return load(Experiment, path, overrides)

    return read


SMALL_ALIASES = "trainer:\n- &a0 [x, x, x, x]\n" + "".join(f"- &a{i + 1} [*a{i}, *a{i}]\n" for i in range(8))
ALIASES = (
    "a: &a0 [x, x, x, x]\n" + "".join(f"b{i}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(9)) + "trainer: *a9"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainr: {}", "unknown key 'trainr'; did you mean 'trainer'?"),
        ("trainer: {step: 3}", "unknown key 'trainer.step'; did you mean 'steps'?"),
        ("zebra: 1", "unknown key 'zebra'; known keys here: by_name, output, train, trainer"),
        ("train: [{dataset: a}, {dataset: b, taks: []}]", "unknown key 'train.1.taks'; did you mean 'tasks'?"),
        ("train: [{datset: a}]", "unknown key 'train.0.datset'; did you mean 'dataset'?"),
        (
            "train: [{dataset: a, transform: {name: crop, sise: 4}}]",
            "unknown key 'train.0.transform.sise'; did you mean 'size'?",
        ),
        ("train: [{dataset: a, transform: {name: edge, sise: 4}}]", "'train.0.transform.sise'; known keys here: length, name"),
        ("trainer: {warmup: {lenght: 3}}", "unknown key 'trainer.warmup.lenght'; did you mean 'length'?"),
        ("by_name: {first: {dataset: a, taskz: []}}", "unknown key 'by_name.first.taskz'; did you mean 'tasks'?"),
        (
            "train: [{dataset: a, transform: {name: crob}}]",
            "'train.0.transform.name' is 'crob'; expected one of 'crop', 'edge'",
        ),
        (
            "train: [{dataset: a, transform: {size: 4}}]",
            "key 'train.0.transform.name' is required; expected one of 'crop', 'edge'",
        ),
        ("train: [{}]", "key 'train.0.dataset' is required"),
        ("train: [{dataset: a, tasks: [walking]}]", "key 'train.0.tasks.0': input should be 'segmentation' or 'referring'"),
        ("trainer: {steps: many}", "key 'trainer.steps': input should be a valid integer"),
        ("trainer: {steps: 3.5}", "key 'trainer.steps': input should be a valid integer"),
        ("trainer: {warmup: {length: -1}}", "key 'trainer.warmup.length': input should be greater than 0 (given: -1)"),
        ("trainer:", "key 'trainer': expected a mapping of settings (given: None)"),
        ("trainer: fast", "key 'trainer': expected a mapping of settings (given: 'fast')"),
        ("- 1", "expected a mapping of settings, found list"),
        ("trainer:\n\tsteps: 3", "line 2: YAML does not allow tabs for indentation; use spaces"),
        ("trainer: {steps: [1", "line 1: not valid YAML"),
        ("trainer:\n  steps: 3\n  steps: 4", "line 3: not valid YAML (key 'steps' stands twice)"),
        ("? [1]\n: 2", "not valid YAML"),
        ("output: \0", "a configuration file is text in UTF-8"),
        ('output: "\\0"', "line 1: not valid YAML (a NUL, or half of a character)"),
        ('output: "\\ud83d"', "line 1: not valid YAML (a NUL, or half of a character)"),
        ("output: !!timestamp then", "not valid YAML (a value is not what its tag or form says"),
        ("output: 2021-99-99", "not valid YAML (a value is not what its tag or form says"),
        (f"trainer: {{steps: {'9' * 5000}}}", "not valid YAML (a value is not what its tag or form says"),
        (f"trainer: {{steps: 0x{'9' * 5000}}}", "a whole number of more than 64 bits"),
        ("output: [" + "1," * 60_000 + "]", "line 1: not valid YAML (more than 50000 values"),
        ("output: " + "[" * 200_000, "line 1: not valid YAML (more than 50000 values, or nested more than 40 deep)"),
        ("output: &a [*a]", "line 1: not valid YAML (an alias that stands for itself)"),
        ("base: &a [x]", "must be the path of one other configuration file, not ['x']"),
        (ALIASES, "not valid YAML (more than 50000 values, or nested more than 40 deep)"),
        (SMALL_ALIASES, "key 'trainer': expected a mapping of settings (given: [['x', 'x', 'x', 'x'], ["),
        (f"trainer: {{{'x' * 900}: 1}}", "unknown key 'trainer.xxx"),
        (f"trainer: {{name: {'x' * 500_000}}}", "unknown key 'trainer.name'"),
        (f"trainer: {{steps: {'x' * 500_000}}}", "should be a valid integer"),
        ("#" * (1 << 20) + "\n", "is 1048577 bytes long; a configuration file has at most 1048576"),
        ("{1: 2}", "key"),
        ("output: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("base: [a, b]", "key 'base' must be the path of one other configuration file"),
        ("base: nowhere.yaml", "nowhere.yaml: no such configuration file"),
        ("base: experiment.yaml", "its chain of base files comes back to itself"),
    ],
)
def test_faults_in_a_file(read, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(text)
    assert message in str(error.value)
    assert ".yaml" in str(error.value), "the file is named"
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000, "one sentence"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.stps=3", "unknown key 'trainer.stps'; did you mean 'steps'?"),
        ("trainer.steps", "expected key.sub=value"),
        ("=3", "expected key.sub=value"),
        ("trainer.steps=[1", "not valid YAML"),
        ("trainer.steps=fast", "key 'trainer.steps': input should be a valid integer"),
        ("train.1.dataset=b", "'1' is not one of the list's items 0 to 0"),
        ("train.x.dataset=b", "'x' is not one of the list's items 0 to 0"),
        ("train.-1.dataset=b", "'-1' is not one of the list's items 0 to 0"),
        ("train.0.tasks.0=referring", "'0' is not in the list, which is empty"),
        ("train.0.dataset.x=b", "'x' lies below a plain value"),
        ("trainer" + ".a" * 10_000 + "=1", "its key has more than 40 parts"),
        ("trainer.steps=" + "[" * 10_000, "nested more than 40 deep"),
    ],
)
def test_faults_in_an_override(read, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read("train: [{dataset: a, tasks: []}]", override)
    assert message in str(error.value)


def test_overrides_are_yaml_and_typed(read) -> None:
    experiment = read(
        "train: [{dataset: a}, {dataset: b}]",
        "train.1.dataset=c",
        "train.0.tasks=[referring]",
        "trainer.learning_rate=1e-5",
        "trainer.warmup.length=7",
        "output=a=b",
    )
    assert [stream.dataset for stream in experiment.train] == ["a", "c"]
    assert experiment.train[0].tasks == ("referring",)
    assert experiment.trainer == Optimiser(learning_rate=1e-5, warmup=Edge(length=7))
    assert experiment.output == Path("a=b")


@pytest.mark.parametrize("number", ["1e-4", "1E-4", "1.0e-4", "+1e-04", ".1e-3", "0.0001", "1.e-4"])
def test_numbers_as_people_write_them(read, number: str) -> None:
    assert read(f"trainer: {{learning_rate: {number}}}").trainer.learning_rate == pytest.approx(1e-4)


def test_words_that_look_like_numbers_stay_words(read) -> None:
    assert read("train: [{dataset: e-4}]").train[0].dataset == "e-4"
    assert read("train: [{dataset: 1e}]").train[0].dataset == "1e"


def test_an_empty_file_means_the_defaults(read) -> None:
    assert read("") == Experiment()


def test_settings_cannot_be_changed(read) -> None:
    with pytest.raises(ValueError, match="frozen"):
        read("").output = Path("elsewhere")


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such configuration file"):
        load(Experiment, tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is a folder, not a configuration file"):
        load(Experiment, tmp_path)
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ConfigError, match=r"pipe\.yaml: is a pipe, a socket or a device, not a configuration file"):
        load(Experiment, tmp_path / "pipe.yaml")
    (tmp_path / "picture.yaml").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ConfigError, match=r"picture\.yaml: found a binary file"):
        load(Experiment, tmp_path / "picture.yaml")


def test_a_chain_of_base_files(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base/root.yaml").write_text("trainer: {steps: 1, learning_rate: 1e-3}\noutput: root")
    (tmp_path / "base/middle.yaml").write_text("base: root.yaml\ntrainer: {steps: 2}")
    (tmp_path / "leaf.yaml").write_text("base: base/middle.yaml\ntrain: [{dataset: a}]\noutput: leaf")
    experiment = load(Experiment, tmp_path / "leaf.yaml", ["trainer.steps=9"])
    assert experiment.trainer == Optimiser(steps=9, learning_rate=1e-3)
    assert experiment.output == Path("leaf") and experiment.train[0].dataset == "a"
    assert "base" not in read_yaml(tmp_path / "leaf.yaml")


def test_a_longer_cycle_of_base_files(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("base: two.yaml")
    (tmp_path / "two.yaml").write_text("base: ./one.yaml")
    with pytest.raises(ConfigError, match="comes back to itself"):
        load(Experiment, tmp_path / "one.yaml")


def test_merging() -> None:
    base = {"a": {"name": "crop", "size": 1}, "b": [1, 2], "c": {"x": 1, "y": {"z": 2}}}
    merged = merge(base, {"a": {"name": "edge"}, "b": [3], "c": {"y": {"w": 4}}})
    assert merged == {"a": {"name": "edge"}, "b": [3], "c": {"x": 1, "y": {"z": 2, "w": 4}}}
    assert merge(base, {"a": {"size": 5}})["a"] == {"name": "crop", "size": 5}
    assert base["c"] == {"x": 1, "y": {"z": 2}}, "the base is left as it was"


def test_parse_names_where_the_settings_came_from() -> None:
    with pytest.raises(ConfigError, match=r"^a checkpoint: unknown key 'stps'"):
        parse(Optimiser, {"stps": 1}, where="a checkpoint")
