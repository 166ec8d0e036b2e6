"""The doctor: a sound set gets a clean bill, every fault its finding with what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from datasets.catalog import CATALOG
from datasets.check.__main__ import main
from datasets.loader import train_loader
from datasets.prepare.own_example import prepare as own_example
from datasets.prepare.shapes import prepare as shapes
from datasets.streams import StreamConfig
from xdecoder.config import parse

VAL = "shapes/annotations/panoptic_val.json"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    shapes(root, train=6, val=4, novel=2)
    return root


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    """A copy that may be broken."""
    shutil.copytree(sound / "shapes", tmp_path / "shapes")
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    status = main([str(argument) for argument in arguments])
    return status, capsys.readouterr().out


def changed(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_sound_set_is_fine(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = told(capsys, "shapes_val", "shapes_train", "--root", sound)
    assert status == 0 and "nothing wrong was found" in text
    assert "shapes_val: 4 pictures, 18 classes," in text and "4 decoded: fine" in text
    assert "shapes_train: 6 pictures" in text


def _lfs(root: Path) -> None:
    (root / VAL).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def _page(root: Path) -> None:
    (root / VAL).write_text("\n<!DOCTYPE html><html>sign in</html>")


def _cut(root: Path) -> None:
    (root / VAL).write_text((root / VAL).read_text()[:100])


def _nothing(root: Path) -> None:
    (root / VAL).write_text("")


def _no_folder(root: Path) -> None:
    shutil.rmtree(root / "shapes/annotations/panoptic_val")


def _lost_images(root: Path) -> None:
    for number in (1, 2):
        (root / f"shapes/images/val/00000{number}.jpg").unlink()


def _damaged(root: Path) -> None:
    for number in (1, 2, 3):
        path = root / f"shapes/images/val/00000{number}.jpg"
        path.write_bytes(path.read_bytes()[:600])


def _image_pointer(root: Path) -> None:
    (root / "shapes/images/val/000002.jpg").write_text("version https://git-lfs.github.com/spec/v1\n")


def _strange_id(root: Path) -> None:
    path = root / "shapes/annotations/panoptic_val/000003.png"
    pixels = np.array(Image.open(path))
    pixels[:5, :5] = 200
    Image.fromarray(pixels).save(path)


def _resized(root: Path) -> None:
    path = root / "shapes/images/val/000004.jpg"
    Image.open(path).resize((64, 64)).save(path)


def _double_image(root: Path) -> None:
    changed(root / VAL, lambda content: content["images"].append(content["images"][0]))


def _lost_join(root: Path) -> None:
    def change(content: Any) -> None:
        content["annotations"][1]["image_id"] = 99

    changed(root / VAL, change)


def _double_annotation(root: Path) -> None:
    def change(content: Any) -> None:
        content["annotations"][1]["id"] = content["annotations"][0]["id"]

    changed(root / "shapes/annotations/captions_val.json", change)


def _strange_category(root: Path) -> None:
    def change(content: Any) -> None:
        content["annotations"][0]["segments_info"][0]["category_id"] = 77

    changed(root / VAL, change)


def _other_split(root: Path) -> None:
    def change(content: Any) -> None:
        for number, image in enumerate(content["images"]):
            image["id"] = 500 + number
        for row in content["annotations"]:
            row["image_id"] = 500

    changed(root / "shapes/annotations/captions_val.json", change)


def _void_object(root: Path) -> None:
    def change(content: Any) -> None:
        content["annotations"][0]["segmentation"] = [[200, 200, 210, 200, 210, 210]]

    changed(root / "shapes/annotations/phrases_val.json", change)


FAULTS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "LFS pointer": (_lfs, "panoptic_val.json: is a Git LFS pointer, not the file itself", "git lfs pull"),
    "HTML page": (_page, "panoptic_val.json: an HTML page that was saved under this name", "download it again"),
    "cut off": (_cut, "panoptic_val.json: not valid JSON", "fetch it again"),
    "empty": (_nothing, "panoptic_val.json: is empty", "fetch it again"),
    "no folder": (_no_folder, "panoptic_val: no such folder", "python -m datasets.prepare"),
    "lost pictures": (_lost_images, "000001.jpg: no such picture; 2 of 4 are missing", "--root must name"),
    "damaged": (_damaged, "the picture is damaged or incomplete", "fetch it again"),
    "picture is a pointer": (_image_pointer, "000002.jpg: is a Git LFS pointer", "git lfs pull"),
    "ids of another release": (_strange_id, "000003.png: holds id", "fetch both again"),
    "resized": (_resized, "000004.jpg: is 64x64 pixels, but its annotation says 128x128", "pictures that were annotated"),
    "listed twice": (_double_image, "images have the id 1 more than once", "mend the ids"),
    "lost join": (_lost_join, "an annotation is of picture 99, which 'images' does not list", "mend the ids"),
    "annotation ids": (_double_annotation, "annotations have the id 1 more than once", "mend the ids"),
    "category": (_strange_category, "picture 1 has category 77, which is none of the set's classes", "mend the ids"),
    "another split": (_other_split, "captions_val.json: has no picture in common with", "name the files of one split"),
    "void object": (_void_object, "annotation 1 of picture 1 covers no pixel of its picture", "leave them out"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found(name: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil, what, advice = FAULTS[name]
    spoil(root)
    status, text = told(capsys, "shapes_val", "--root", root, "--all")
    assert status == 1
    lines = text.splitlines()
    found = [i for i, line in enumerate(lines) if what in line]
    assert len(found) == 1, text
    assert lines[found[0] + 1].startswith("   → ") and advice in lines[found[0] + 1]
    assert len(lines) <= 50


def test_counts(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = {"name": "mine", "reader": "coco", "images": "shapes/images/val", "captions": "shapes/annotations/captions_val.json"}
    entry = {"tasks": ["captioning"], "transform": {"name": "stretch"}}
    path = root / "counted.yaml"
    wanted = {**spec, "count": 5, "counts": {"captions": 1}}
    path.write_text(yaml.safe_dump({"data": {"root": str(root), "evaluate": [{"dataset": wanted, **entry}]}}))
    status, text = told(capsys, path)
    assert status == 1 and "mine: 4 pictures; expected 5" in text and "captions; expected 1" in text


def test_pictures_that_are_learnt_and_measured(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(root / "shapes/images/val/000003.jpg", root / "shapes/images/train/000001.jpg")
    for names in (["shapes_val"], ["shapes_train"], ["shapes_train", "shapes_val"]):
        status, text = told(capsys, *names, "--root", root)
        assert status == 1 and text.count("1 of the 4 pictures of shapes_val are in shapes_train too, such as 000001.jpg") == 1
        assert "write `exclude: [shapes_val]` into the stream that learns from shapes_train" in text
    stretch = {"name": "stretch", "size": 32}
    entry = {"dataset": "shapes_train", "tasks": ["segmentation"], "batch_size": 5, "transform": stretch}
    kept = next(train_loader(parse(StreamConfig, {**entry, "exclude": ["shapes_val"]}), root))
    assert {sample.id for sample in kept.samples} == {2, 3, 4, 5, 6}
    with pytest.raises(ValueError, match="'shapes_train' has no picture that is not in `exclude`"):
        train_loader(parse(StreamConfig, {**entry, "exclude": ["shapes_train"]}), root)


def test_one_photograph_under_the_names_of_two_coco_releases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def made(name: str, files: list[str]) -> dict[str, Any]:
        for number, file in enumerate(files):
            path = tmp_path / name / file
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), 20 * len(name) + number, dtype=np.uint8)).save(path)
        images = [{"id": i, "file_name": file} for i, file in enumerate(files)]
        rows = [{"id": i, "image_id": i, "caption": "a photo"} for i in range(len(files))]
        (tmp_path / f"{name}.json").write_text(json.dumps({"images": images, "annotations": rows}))
        return {"name": name, "reader": "coco", "images": name, "captions": f"{name}.json"}

    learnt = made("new", ["000000000009.jpg", "000000000025.jpg"])
    measured = made("karpathy", ["COCO_train2014_000000000025.jpg", "COCO_val2014_000000000042.jpg"])
    entry = {"tasks": ["captioning"], "transform": {"name": "stretch"}}
    experiment = {"root": str(tmp_path), "train": [{"dataset": learnt, "batch_size": 1, **entry}]}
    path = tmp_path / "leaky.yaml"
    path.write_text(yaml.safe_dump({"model": {}, "data": {**experiment, "evaluate": [{"dataset": measured, **entry}]}}))
    status, text = told(capsys, path)
    assert status == 1 and "1 of the 2 pictures of karpathy are in new too, such as 000000000025.jpg" in text


def test_own_data_by_path_and_by_experiment(tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own_example(tmp_path, images=10, side=64)
    status, text = told(capsys, tmp_path / "own_example/yolo")
    assert status == 0 and "own_train: 8 pictures, 4 classes" in text and "own_val: 2 pictures" in text
    (tmp_path / "own_example/masks/classes.txt").unlink()
    config = Path(__file__).resolve().parents[2] / "configs/finetune/own_data_small.yaml"
    status, text = told(capsys, config, f"data.own={tmp_path}/own_example/masks")
    assert status == 1 and "classes.txt: no such file; write the class of value 0" in text
    status, text = told(capsys, config, f"data.own={tmp_path}/own_example/coco")
    assert status == 0


def test_wrong_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shapes_vall"]) == 2
    assert "unknown data set 'shapes_vall'; did you mean 'shapes_val'?" in capsys.readouterr().err
    status, text = told(capsys, "shapes_val", "--root", tmp_path / "no")
    assert status == 1 and "data root" in text and "name the folder that holds the data sets with --root" in text


def test_the_real_kit(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = told(capsys, "coco_kit_val", "coco_kit_train", "coco_refs", "--root", shared / "data")
    assert "coco_kit_val: 100 pictures, 133 classes, 1078 objects" in text
    assert status == 1 and text.count("→") == 1, "what the kit's README says it shares, and nothing else"
    assert "2 of the 47 pictures of coco_refs are in coco_kit_train too" in text


def test_the_catalog_is_listed_whole(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--root", str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line[2:] for line in lines} == set(CATALOG)
    made = ["shapes_train", "shapes_val", "shapes_novel", "shapes_absent", "shapes_absent_fit"]
    assert [line[2:] for line in lines if line.startswith("* ")] == made
    assert main(["xyz"]) == 2
    assert f"`xdecoder check --list` prints the {len(CATALOG)} that are known" in capsys.readouterr().err
