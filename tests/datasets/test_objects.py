"""Objects to be marked: mask images in the layouts of the official sets, and marked objects of training samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from datasets.catalog import find
from datasets.loader import evaluation_loader, train_loader
from datasets.marking import draw_objects
from datasets.prepare.__main__ import main
from datasets.readers import read
from datasets.readers.objects import ObjectsSpec
from datasets.streams import EvaluationConfig, StreamConfig
from xdecoder.config import parse
from xdecoder.types import Sample

HEIGHT, WIDTH = 30, 40


def save(path: Path, values: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values.astype(np.uint8))
    if palette:
        image.putpalette([channel for index in range(256) for channel in (index, 255 - index, index // 2)])
    image.save(path)


def picture(path: Path) -> None:
    save(path, np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)))


def square(value: int, start: int) -> np.ndarray:
    values = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    values[start : start + 12, start : start + 12] = value
    return values


def spec(**settings: Any) -> ObjectsSpec:
    return parse(ObjectsSpec, {"name": "mine", "reader": "objects", "images": "images", "masks": "masks", **settings})


def samples(root: Path, of: ObjectsSpec) -> list[Sample]:
    entry = {"dataset": of.model_dump(), "tasks": ["interactive"], "transform": {"name": "stretch", "size": 32}}
    return [sample for batch in evaluation_loader(parse(EvaluationConfig, entry), root) for sample in batch.samples]


def test_several_masks_of_one_picture(tmp_path: Path) -> None:
    """As Berkeley's: the mask's name begins with its picture's; 1.jpg has two, 10.jpg one."""
    for name in ("1.jpg", "10.jpg"):
        picture(tmp_path / "images" / name)
    for name, start in (("1.png", 2), ("1b.png", 15), ("10.png", 5)):
        save(tmp_path / "masks" / name, square(255, start))
    first, second = samples(tmp_path, spec(one_object=True))
    assert (first.id, len(first.objects.masks)) == ("1", 2) and (second.id, len(second.objects.masks)) == ("10", 1)
    assert first.objects.masks[1, 20, 20] and not first.objects.masks[1, 3, 3] and first.objects.ignored is None
    assert first.output_size == (HEIGHT, WIDTH) and first.image.shape == (3, 32, 32)


def test_borders_do_not_count(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.bmp")
    mask = square(255, 5)
    mask[4] = 128
    save(tmp_path / "masks/a.bmp", mask)
    (sample,) = samples(tmp_path, spec(one_object=True, ignore_value=128))
    assert sample.objects.masks.sum() == 144 and sample.objects.ignored.sum() == WIDTH and sample.objects.ignored[4].all()


def test_objects_by_palette_index(tmp_path: Path) -> None:
    """As Pascal VOC's: two objects whose colours would be the same grey are still two; 255 is the border."""
    picture(tmp_path / "images/x.jpg")
    mask = square(1, 2) + square(16, 16)
    mask[0] = 255
    save(tmp_path / "masks/x.png", mask, palette=True)
    (tmp_path / "list.txt").write_text("x\n")
    (sample,) = samples(tmp_path, spec(split="list.txt", ignore_value=255))
    assert sample.objects.masks.flatten(1).sum(1).tolist() == [144, 144] and sample.objects.ignored.sum() == WIDTH


def test_lists_of_pairs(tmp_path: Path) -> None:
    picture(tmp_path / "images/x.jpg")
    save(tmp_path / "masks/y.png", np.stack([square(255, 2)] * 3, axis=-1))  # three channels
    (tmp_path / "list.txt").write_text("images/x.jpg masks/y.png\n")
    (sample,) = samples(tmp_path, spec(images="", masks="", split="list.txt", one_object=True))
    assert sample.objects.masks.sum() == 144


WRONG = {
    "no picture of its name": lambda root: save(root / "masks/z.png", square(1, 1)),
    "of which there is no mask image": lambda root: (root / "list.txt").write_text("x\n"),
    "line 1 should hold a picture and its mask image": lambda root: (root / "list.txt").write_text("a b c\n"),
    "is 5x4 pixels, but its picture is 40x30": lambda root: save(root / "masks/x.png", np.ones((4, 5))),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_what_is_wrong_is_one_sentence(sentence: str, tmp_path: Path) -> None:
    picture(tmp_path / "images/x.jpg")
    (tmp_path / "masks").mkdir()
    WRONG[sentence](tmp_path)
    listed = {"split": "list.txt"} if (tmp_path / "list.txt").exists() else {}
    with pytest.raises(ValueError, match=sentence):
        samples(tmp_path, spec(**listed))


def test_sbd(tmp_path: Path) -> None:
    picture(tmp_path / "SBD/img/s.jpg")
    (tmp_path / "SBD/inst").mkdir()
    inside = np.array([[(square(1, 2) + square(2, 16), 0)]], dtype=[("Segmentation", "O"), ("Boundaries", "O")])
    savemat(tmp_path / "SBD/inst/s.mat", {"GTinst": inside})
    (tmp_path / "SBD/val.txt").write_text("s\n")
    assert main(["sbd", "--root", str(tmp_path), "--workers", "1"]) == 0
    (sample,) = samples(tmp_path, find("sbd_interactive_val").model_copy(update={"count": 1}))
    assert sample.objects.masks.flatten(1).sum(1).tolist() == [144, 144]


def test_training_samples_come_with_strokes(tmp_path: Path) -> None:
    picture(tmp_path / "images/1.jpg")
    for name, start in (("1.png", 2), ("1b.png", 16)):
        save(tmp_path / "masks" / name, square(255, start))
    stream = {
        "dataset": spec(one_object=True).model_dump(),
        "tasks": ["interactive"],
        "batch_size": 1,
        "transform": {"name": "stretch", "size": 32},
        "max_objects": 1,
        "strokes": ["point"],
    }
    drawn = []
    for batch, _ in zip(train_loader(parse(StreamConfig, stream), tmp_path), range(6), strict=False):
        (sample,) = batch.samples
        assert sample.objects.masks.shape == sample.objects.strokes.positive.shape == (1, 32, 32)
        assert not (sample.objects.strokes.positive & ~sample.objects.masks).any()
        drawn.append(sample.objects.strokes.positive)
    assert len({tuple(strokes.nonzero().flatten().tolist()) for strokes in drawn}) > 1


def test_small_objects_are_not_marked() -> None:
    masks = torch.zeros(2, 30, 30, dtype=torch.bool)
    masks[0, :2, :2], masks[1, 10:20, 10:20] = True, True
    found = draw_objects(masks, 10, ["scribble"], np.random.default_rng(0))
    assert len(found.masks) == len(found.strokes) == 1 and found.masks[0, 15, 15]


@pytest.mark.parametrize(("name", "objects"), [("grabcut_kit", 50), ("berkeley_kit", 100), ("coco_mval_kit_val", 114)])
def test_real_sets(name: str, objects: int, shared: Path) -> None:
    source = read(find(name), shared / "data")
    assert source.spec.counts.objects == objects
    entry = {
        "dataset": name,
        "tasks": ["interactive"],
        "limit": 2,
        "transform": {"name": "shortest_edge", "size": 128, "max_size": 256},
    }
    for batch in evaluation_loader(parse(EvaluationConfig, entry), shared / "data"):
        assert all(sample.objects.masks.flatten(1).any(1).all() for sample in batch.samples)
