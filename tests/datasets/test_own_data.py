"""Your own data: every format that `data.own` takes, and every mistake that people make with one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datasets.loader import evaluation_loader, train_loader
from datasets.prepare.own_example import CLASSES, GROUND, prepare
from datasets.readers import Source, own, read, share
from datasets.readers.own import OwnSpec
from datasets.records import Record
from datasets.streams import DataConfig, describe_own
from xdecoder.config import ConfigError, parse

JITTER = {"name": "lsj", "size": 64, "min_scale": 0.8, "max_scale": 1.2}
FORMATS = {
    "coco": ("coco", "instance confusion", "segmentation"),
    "coco/annotations.json": ("coco", "instance confusion", "segmentation"),
    "masks": ("label_images", "semantic", "segmentation"),
    "yolo": ("yolo", "instance confusion", "segmentation"),
    "folders": ("class_folders", "classification", "retrieval"),
}


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("own")
    assert prepare(root, images=20, side=96) and not prepare(root, images=20, side=96)
    return root / "own_example"


def found(path: Path, part: Any = "train") -> Source:
    return read(own.find(OwnSpec(name=f"own_{part}", images=str(path), part=part)), "nowhere")


def data(path: Path, task: str) -> DataConfig:
    entry = {"tasks": [task], "batch_size": 4, "transform": JITTER}
    measured = {"dataset": "own_val", "tasks": [task], "transform": {"name": "stretch", "size": 64}}
    return parse(DataConfig, {"own": str(path), "train": [{"dataset": "own_train", **entry}], "evaluate": [measured]})


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_told_and_read(example: Path, name: str) -> None:
    reader, evaluators, task = FORMATS[name]
    learnt, measured = (found(example / name, part) for part in ("train", "val"))
    assert learnt.spec.reader == reader and learnt.spec.evaluators == tuple(evaluators.split())
    assert learnt.vocabulary and set(learnt.vocabulary.names) - {GROUND} == set(CLASSES)
    images = [{record.image for record in source.records} for source in (learnt, measured)]
    assert not images[0] & images[1] and len(images[0] | images[1]) == 20
    config = data(example / name, task)
    lines = describe_own(config)
    assert [line.split(":")[0] for line in lines] == ["own_train", "own_val"]
    assert "ruby" in lines[0] and "your own data" in lines[0]
    batch = next(train_loader(config.train[0], config.root))
    assert len(batch) == 4
    for sample in evaluation_loader(config.evaluate[0], config.root):
        assert sample.vocabulary == learnt.vocabulary
    if task == "segmentation":
        assert all(sample.segments is not None and len(sample.segments.labels) for sample in batch.samples)
    else:
        assert all(sample.captions[0] in CLASSES for sample in batch.samples)


def test_formats_say_the_same_of_a_picture(example: Path) -> None:
    """The example writes one scene thrice; outlines lose their rim only."""
    painted = {}
    for name in ("coco", "masks", "yolo"):
        config = data(example / name, "segmentation")
        for part in (*found(example / name).records, *found(example / name, "val").records):
            if part.image.stem == "gems_007":
                split = "own_val" if part in found(example / name, "val").records else "own_train"
                spec = own.find(OwnSpec(name=split, images=str(example / name), part=split[4:]))
                entry = config.evaluate[0].model_copy(update={"dataset": spec})
                samples = [sample for batch in evaluation_loader(entry, config.root) for sample in batch.samples]
                segments = next(s for s in samples if str(s.id) in ("7", "gems_007")).segments
                assert segments is not None
                painted[name] = [segments.masks[segments.labels == label].any(0) for label in range(len(CLASSES))]
    assert set(painted) == {"coco", "masks", "yolo"}
    for label in range(len(CLASSES)):
        sizes = [int(painted[name][label].sum()) for name in painted]
        overlap = int((painted["masks"][label] & painted["coco"][label] & painted["yolo"][label]).sum())
        assert overlap >= 0.75 * max(sizes), f"{CLASSES[label]}: {sizes} pixels, {overlap} in common"


def test_shares_are_fixed_and_stay_when_pictures_join() -> None:
    records = [Record(id=i, image=Path(f"picture_{i}.jpg")) for i in range(200)]
    learnt, measured = share(records, "train"), share(records, "val")
    assert len(learnt) + len(measured) == 200 and 20 < len(measured) < 60
    assert share(records[:100], "val") == [record for record in measured if int(record.id) < 100]
    for few in (records[:2], records[5:7], records[11:14]):
        assert share(few, "train") and share(few, "val")
    with pytest.raises(ValueError, match="needs two pictures at least"):
        share(records[:1], "train")


def test_splits_may_be_folders_or_named_files(tmp_path: Path, example: Path) -> None:
    content = json.loads((example / "coco/annotations.json").read_text())
    for split, images in (("train", content["images"][:5]), ("valid", content["images"][5:8])):
        ids = {image["id"] for image in images}
        rows = [row for row in content["annotations"] if row["image_id"] in ids]
        folder = tmp_path / "export" / split
        folder.mkdir(parents=True)
        for image in images:
            (folder / image["file_name"]).write_bytes((example / "coco/images" / image["file_name"]).read_bytes())
        text = json.dumps({**content, "images": images, "annotations": rows})
        (folder / "_annotations.coco.json").write_text(text)
        named = tmp_path / "named/annotations" / f"instances_{split}2020.json"
        named.parent.mkdir(parents=True, exist_ok=True)
        named.write_text(text)
    (tmp_path / "named/images").symlink_to(example / "coco/images")
    for name in ("export", "named"):
        assert (len(found(tmp_path / name).records), len(found(tmp_path / name, "val").records)) == (5, 3)
        assert "its own splits" in found(tmp_path / name).spec.protocol


def image(path: Path, size: tuple[int, int] = (20, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*size, 3), dtype=np.uint8)).save(path)


def mask(path: Path, values: tuple[int, ...], size: tuple[int, int] = (20, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.resize(np.array(values, dtype=np.uint8), size)).save(path)


def masks_folder(folder: Path, values: tuple[int, ...] = (0, 1), classes: str | None = "floor\ncrack\n") -> Path:
    for i in range(3):
        image(folder / f"images/{i}.jpg")
        mask(folder / f"masks/{i}.png", values)
    if classes is not None:
        (folder / "classes.txt").write_text(classes)
    return folder


def yolo_folder(folder: Path, line: str = "0 0.1 0.1 0.9 0.1 0.5 0.9", names: str = "names: [crack, hole]\n") -> Path:
    for i in range(3):
        image(folder / f"images/{i}.jpg")
    (folder / "labels").mkdir()
    (folder / "labels/1.txt").write_text(line + "\n")
    (folder / "data.yaml").write_text(names)
    return folder


def coco_file(folder: Path, **changes: Any) -> Path:
    image(folder / "images/a.jpg")
    row = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]]}
    images = [{"id": 1, "file_name": "a.jpg"}]
    content = {"images": images, "annotations": [row], "categories": [{"id": 1, "name": "crack"}]} | changes
    (folder / "all.json").write_text(json.dumps(content))
    return folder


def _boxes(folder: Path) -> Path:
    return coco_file(folder, annotations=[{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "segmentation": []}])


def _two_files(folder: Path) -> Path:
    coco_file(folder)
    (folder / "more.json").write_text((folder / "all.json").read_text())
    return folder


def _elsewhere(folder: Path) -> Path:
    return coco_file(folder, images=[{"id": 1, "file_name": "b.jpg"}])


def _other_category(folder: Path) -> Path:
    return coco_file(folder, categories=[{"id": 7, "name": "x"}])


def _no_mask(folder: Path) -> Path:
    (masks_folder(folder) / "masks/2.png").unlink()
    return folder


def _coloured(folder: Path) -> Path:
    colours = np.zeros((20, 30, 3), dtype=np.uint8)
    colours[5:] = (200, 0, 0)
    Image.fromarray(colours).save(masks_folder(folder) / "masks/1.png")
    return folder


def _resized(folder: Path) -> Path:
    mask(masks_folder(folder) / "masks/1.png", (0, 1), (10, 15))
    return folder


def _no_labels(folder: Path) -> Path:
    (yolo_folder(folder) / "labels/1.txt").unlink()
    return folder


def _stray_label(folder: Path) -> Path:
    (yolo_folder(folder) / "labels/9.txt").write_text("")
    return folder


def _turned(folder: Path) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((20, 30, 3), dtype=np.uint8)).save(yolo_folder(folder) / "images/1.jpg", exif=exif)
    return folder


def _empty(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "notes.txt").write_text("nothing here")
    return folder


def _text_file(folder: Path) -> Path:
    return _empty(folder) / "notes.txt"


MISTAKES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nowhere": (lambda folder: folder / "no", "no: no such folder or file; data.own names your own data: a COCO JSON"),
    "unknown format": (_empty, "is in no format that is known here; expected a COCO JSON beside its pictures; images/"),
    "no JSON": (_text_file, "notes.txt: is no COCO JSON"),
    "boxes only": (_boxes, "all.json: its annotations are boxes only; each needs a 'segmentation'"),
    "no annotations": (lambda f: coco_file(f, annotations=[]), "an object with a list 'annotations' that is not empty"),
    "two JSONs": (_two_files, "hold instances both; name one of them with data.own=FILE"),
    "pictures elsewhere": (_elsewhere, "its first picture 'b.jpg' is not there; looked for in .*/mine"),
    "unknown category": (_other_category, "picture 1 has category 1, which is none of the set's classes"),
    "no class list": (lambda f: masks_folder(f, classes=None), "classes.txt: no such file; write the class of value 0"),
    "background": (
        lambda f: masks_folder(f, classes="background\ncrack\n"),
        "its only class beside 'background' would be right everywhere",
    ),
    "black and white": (lambda f: masks_folder(f, (0, 255)), "its masks are black and white .* paint class k"),
    "twice": (lambda f: masks_folder(f, classes="crack\ncrack\n"), "class names must differ"),
    "no mask": (_no_mask, r"2\.png: no such file"),
    "value out of range": (
        lambda f: masks_folder(f, (0, 2)),
        r"png: holds value 2; expected 0 to 1, or 255, which is unlabelled",
    ),
    "colours": (_coloured, "1.png: has 3 channels; a label image has one"),
    "other size": (_resized, "1.png: is 15x10 pixels, but its picture is 30x20"),
    "no labels": (_no_labels, "labels: holds no .txt file"),
    "label of no picture": (_stray_label, "9.txt: labels a picture that .*images does not hold"),
    "box": (lambda f: yolo_folder(f, "0 0.5 0.5 0.1 0.1"), r"1.txt: line 1: holds a box \(centre and size\)"),
    "odd": (lambda f: yolo_folder(f, "0 0.1 0.1 0.9 0.1 0.5 0.9 0.3"), "line 1: has 7 coordinates; a polygon has"),
    "pixels": (lambda f: yolo_folder(f, "0 10 10 90 10 50 90"), "line 1: a coordinate is 90; they are shares"),
    "class too high": (lambda f: yolo_folder(f, "2 0.1 0.1 0.9 0.1 0.5 0.9"), "its class is 2; expected .* from 0 to 1"),
    "words": (lambda f: yolo_folder(f, "crack 0.1 0.1"), "should hold a class number and coordinates, not 'crack 0.1 0.1'"),
    "no names": (lambda f: yolo_folder(f, names="nc: 2\n"), "data.yaml: expected 'names', a list of the class names"),
    "gap in names": (lambda f: yolo_folder(f, names="names: {0: a, 2: b}\n"), "a mapping from 0, 1, 2, … to them"),
    "no YAML": (lambda f: yolo_folder(f, names="names: [a\n"), "data.yaml: line 2: not valid YAML"),
    "turned": (_turned, r"1.jpg: is stored turned \(EXIF orientation 6\)"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told_in_one_sentence(name: str, tmp_path: Path) -> None:
    make, sentence = MISTAKES[name]
    path = make(tmp_path / "mine")
    with pytest.raises(ValueError, match=sentence) as caught:
        for part in ("train", "val"):
            source = found(path, part)
            entry = data(path, "segmentation").evaluate[0].model_copy(update={"dataset": source.spec})
            for _ in evaluation_loader(entry, "nowhere"):
                pass
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_what_is_not_named_or_does_not_fit(example: Path) -> None:
    entry = {"dataset": "own_train", "tasks": ["segmentation"], "batch_size": 2, "transform": JITTER}
    with pytest.raises(ValueError, match="'own_train' is your own data; name the folder or the COCO JSON with data.own=PATH"):
        train_loader(parse(DataConfig, {"train": [entry]}).train[0], "data")
    config = data(example / "folders", "segmentation")
    with pytest.raises(ValueError, match="has nothing for task 'segmentation'; it serves retrieval, classification"):
        train_loader(config.train[0], config.root)
    with pytest.raises(ConfigError, match="unknown data set 'own_trian'; did you mean 'own_train'"):
        parse(DataConfig, {"own": "x", "train": [{**entry, "dataset": "own_trian"}]})


def test_settings_survive_being_written_and_read(example: Path) -> None:
    config = data(example / "yolo", "segmentation")
    assert parse(DataConfig, config.model_dump(mode="json")) == config
    with pytest.raises(ValueError, match="own_example needs eight pictures at least, not 3"):
        prepare(example, images=3)


def test_pictures_that_are_measured_are_left_out_of_learning(example: Path, tmp_path: Path) -> None:
    shutil.copytree(example / "yolo", tmp_path / "leaky")
    for kind, suffix in (("images", "jpg"), ("labels", "txt")):
        first = min((tmp_path / f"leaky/{kind}/val").iterdir())
        shutil.copy(first, tmp_path / f"leaky/{kind}/train/copied.{suffix}")
    config = data(tmp_path / "leaky", "segmentation").model_dump(mode="json")
    stream = config["train"][0] | {"batch_size": 17}
    learnt = [
        {sample.id for sample in next(train_loader(each, "nowhere")).samples}
        for each in parse(DataConfig, config | {"train": [stream, stream | {"batch_size": 16, "exclude": ["own_val"]}]}).train
    ]
    assert learnt[0] - learnt[1] == {"copied"}
