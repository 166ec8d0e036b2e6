"""The catalog, and inline specifications."""

from __future__ import annotations

import pytest

from datasets.catalog import CATALOG, find
from datasets.loader import EvaluationConfig, StreamConfig, resolve
from datasets.spec import DatasetSpec
from xdecoder.config import ConfigError, parse

STRETCH = {"name": "stretch", "size": 32}


def test_names_and_paths() -> None:
    for name, spec in CATALOG.items():
        assert spec.name == name and find(name) is spec
        assert not spec.images.startswith("/") and (spec.protocol or spec.reader == "own")


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match="unknown data set 'shape_val'; did you mean 'shapes_val'?"):
        find("shape_val")
    with pytest.raises(ValueError, match="known: shapes_train"):
        find("zzz")
    with pytest.raises(ConfigError, match="did you mean 'camvid_train'"):
        parse(StreamConfig, {"dataset": "camvid_trian", "tasks": ["segmentation"], "batch_size": 1, "transform": STRETCH})


def test_inline_specification() -> None:
    spec = {"name": "mine", "reader": "label_images", "images": "a", "labels": "b", "classes": ["x", "y"]}
    entry = parse(EvaluationConfig, {"dataset": spec, "tasks": ["segmentation"], "transform": STRETCH})
    assert isinstance(entry.dataset, DatasetSpec) and resolve(entry.dataset).classes == ("x", "y") and entry.prefix == "mine"
    with pytest.raises(ConfigError, match="did you mean 'images'"):
        wrong = {"dataset": {**spec, "imagess": "a"}, "tasks": ["segmentation"], "transform": STRETCH}
        parse(EvaluationConfig, wrong)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"reader": "coco"}, "needs panoptic or instances or phrases or captions"),
        ({"reader": "coco", "panoptic": "p.json"}, "panoptic and panoptic_images come together"),
        ({"reader": "label_images", "labels": "b"}, "needs classes or vocabulary"),
        ({"reader": "label_images", "classes": ("a",)}, "needs split or labels"),
        ({"reader": "refer", "phrases": "r.p", "instances": "i.json"}, "needs subset"),
        ({"reader": "coco", "instances": "i.json", "vocabulary": "coco_13"}, "list 'coco_13'; did you mean 'coco_133'"),
        ({"reader": "coco", "instances": "i.json", "label_ids": True}, "label_ids needs a vocabulary"),
        ({"reader": "yolo", "classes": ("a",), "vocabulary": "voc_20"}, "by vocabulary or by classes, not both"),
        ({"reader": "captions"}, "needs captions"),
    ],
)
def test_incomplete_specification(fields: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        DatasetSpec(name="x", images="i", **fields)  # type: ignore[arg-type]


def test_what_a_set_provides() -> None:
    assert find("shapes_val").provides("referring") and find("shapes_val").provides("retrieval")
    assert find("camvid_test").provides("segmentation") and not find("camvid_test").provides("captioning")
    assert not find("flickr8k_test").provides("segmentation")
