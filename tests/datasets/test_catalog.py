"""The catalog, and inline specifications."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datasets.catalog import CATALOG, find
from datasets.loader import train_loader
from datasets.readers.label_images import LabelImagesSpec
from datasets.streams import DataConfig, EvaluationConfig, StreamConfig, resolve
from datasets.tasks import serves
from xdecoder.config import ConfigError, parse

STRETCH = {"name": "stretch", "size": 32}


def test_names_and_paths() -> None:
    for name, spec in CATALOG.items():
        assert spec.name == name and find(name) is spec
        assert not spec.images.startswith("/") and (spec.protocol or spec.reader == "own")


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match="unknown data set 'shape_val'; did you mean 'shapes_val'?"):
        find("shape_val")
    with pytest.raises(ValueError, match="check --list` prints the"):
        find("zzz")
    with pytest.raises(ConfigError, match="did you mean 'camvid_train'"):
        parse(StreamConfig, {"dataset": "camvid_trian", "tasks": ["segmentation"], "batch_size": 1, "transform": STRETCH})


def test_inline_specification() -> None:
    spec = {"name": "mine", "reader": "label_images", "images": "a", "labels": "b", "classes": ["x", "y"]}
    entry = parse(EvaluationConfig, {"dataset": spec, "tasks": ["segmentation"], "transform": STRETCH})
    assert isinstance(entry.dataset, LabelImagesSpec) and entry.dataset.classes == ("x", "y") and entry.prefix == "mine"
    assert resolve(entry.dataset) is entry.dataset
    assert entry.model_dump()["dataset"]["classes"] == ("x", "y"), "what a class adds is written out too"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"reader": "coco"}, "needs panoptic or instances or phrases or captions"),
        ({"reader": "coco", "panoptic": "p.json"}, "panoptic and panoptic_images come together"),
        ({"reader": "label_images", "labels": "b"}, "needs classes or vocabulary"),
        ({"reader": "label_images", "classes": ["a"]}, "needs split or labels"),
        ({"reader": "refer", "phrases": "r.p", "instances": "i.json"}, "'train.0.dataset.subset' is required"),
        ({"reader": "coco", "instances": "i.json", "vocabulary": "coco_13"}, "list 'coco_13'; did you mean 'coco_133'"),
        ({"reader": "coco", "instances": "i.json", "label_ids": True}, "label_ids needs a vocabulary"),
        ({"reader": "yolo", "labels": "b", "classes": ["a"], "vocabulary": "voc_20"}, "by vocabulary or by classes, not both"),
        ({"reader": "captions"}, "'train.0.dataset.captions' is required"),
        ({"reader": "tar"}, "'train.0.dataset.files' is required"),
        ({"reader": "yolo", "classes": ["a"], "lables": "b"}, "'train.0.dataset.lables'; did you mean 'labels'"),
        ({"reader": "yolo", "labels": "b", "classes": ["a"], "questions": "q"}, "unknown key 'train.0.dataset.questions'"),
        ({"reader": "captions", "captions": "c", "ignore_value": 3}, "unknown key 'train.0.dataset.ignore_value'"),
        (
            {"reader": "label_images", "classes": ["a"], "labels": 3},
            "key 'train.0.dataset.labels': input should be a .* string",
        ),
        ({"reader": "coko", "instances": "i.json"}, "key 'train.0.dataset': unknown reader 'coko'; did you mean 'coco'"),
        ({"instances": "i.json"}, "needs its 'reader', one of coco, "),
        ({"reader": "no.such.module:Reader"}, "cannot be imported .*No module named"),
        ({"reader": "pathlib:Path"}, "pathlib:Path is no subclass of datasets.spec.DatasetSpec"),
    ],
)
def test_wrong_specification(fields: dict[str, Any], sentence: str) -> None:
    dataset = {"name": "x", "images": "i", **fields}
    for given in (dataset, [dataset]):
        stream = {"dataset": given, "tasks": ["segmentation"], "batch_size": 1, "transform": STRETCH}
        where = sentence.replace("train.0.dataset", "train.0.dataset.0") if isinstance(given, list) else sentence
        with pytest.raises(ConfigError, match=where):
            parse(DataConfig, {"train": [stream]})


def test_what_a_set_provides() -> None:
    assert serves(find("shapes_val"), "referring") and serves(find("shapes_val"), "retrieval")
    assert serves(find("camvid_test"), "segmentation") and not serves(find("camvid_test"), "captioning")
    assert not serves(find("imagenet_val"), "captioning") and serves(find("imagenet_val"), "retrieval")
    assert serves(find("camvid_test"), "referring", training=True) and not serves(find("vqav2_val2014"), "referring", True)


READER = """
from typing import Literal

from datasets.records import Contents, Record
from datasets.spec import DatasetSpec


class FilmstripSpec(DatasetSpec):
    reader: Literal["filmstrip", "my_films:FilmstripSpec"]
    title: str

    def provides(self):
        return frozenset({"captions"})

    def read(self, root):
        files = sorted((root / self.images).iterdir())
        return Contents(None, [Record(file.stem, file, captions=(self.title,)) for file in files])
"""


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package of somebody else's, with a reader that it offers as an entry point."""
    folder = tmp_path / "site"
    about = folder / "my_films-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "my_films.py").write_text(READER)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my_films\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[xdecoder.readers]\nfilmstrip = my_films:FilmstripSpec\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "my_films", raising=False)
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(2):
        Image.new("RGB", (8, 6)).save(frames / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("reader", ["my_films:FilmstripSpec", "filmstrip"])
def test_a_reader_from_elsewhere(elsewhere: Path, reader: str) -> None:
    spec = {"name": "films", "reader": reader, "images": "frames", "title": "a film"}
    stream = {"dataset": spec, "tasks": ["captioning"], "batch_size": 2, "transform": STRETCH}
    batch = next(train_loader(parse(StreamConfig, stream), elsewhere))
    assert sorted(sample.id for sample in batch.samples) == ["0", "1"]
    assert {sample.captions for sample in batch.samples} == {("a film",)}
    with pytest.raises(ConfigError, match="unknown key 'dataset.titel'; did you mean 'title'"):
        parse(StreamConfig, {**stream, "dataset": {**spec, "titel": "a"}})
    with pytest.raises(ValueError, match="nothing for task 'segmentation'; it serves captioning"):
        next(train_loader(parse(StreamConfig, {**stream, "tasks": ["segmentation"]}), elsewhere))
