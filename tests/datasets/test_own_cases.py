"""Sets as people have them, through the doctor, training, evaluation and the predictor: all read them alike or say why not."""

from __future__ import annotations

import importlib
import json
import logging
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from datasets.check.__main__ import main as check
from tests.datasets.own_cases import (
    BOX,
    LINES,
    class_folders,
    coco,
    each,
    labelme,
    masks,
    outline,
    pipe,
    save,
    voc,
    yolo,
)
from trainer.experiment import ExperimentConfig
from xdecoder import checkpoint
from xdecoder.config import parse
from xdecoder.model import XDecoder

MODEL = {
    "backbone": {"name": "focal", "width": 16, "depths": [1, 1, 1, 1], "levels": 2, "drop_path": 0.0},
    "pixel_decoder": {"name": "fpn", "width": 32, "layers": 1, "heads": 4, "hidden": 32},
    "decoder": {"queries": 7, "layers": 2, "width": 32, "heads": 4, "hidden": 32, "joint_width": 32},
    "language": {"merges": 500, "width": 32, "heads": 4, "layers": 1, "output_width": 32},
    "image_size": 64,
}
EXPERIMENT = {
    "model": MODEL,
    "tasks": {
        "segmentation": {"templates": "none", "points": 64, "matching": {"points": 64}},
        "retrieval": {},
        "classification": {"templates": "none"},
    },
    "trainer": {"steps": 2, "save_every": 2, "log_every": 1, "device": "cpu", "warmup_steps": 0},
}
Case = Callable[[Path], Path]


def experiment(folder: Path, own: Path, output: Path, classes: bool = False) -> Path:
    """The YAML of a small experiment on own data."""
    learn, measure = ("retrieval", "classification") if classes else ("segmentation", "segmentation")
    entry = {"transform": {"name": "stretch", "size": 64}}
    data = {
        "own": str(own),
        "train": [{"dataset": "own_train", "tasks": [learn], "batch_size": 2, **entry}],
        "evaluate": [{"dataset": "own_val", "tasks": [measure], "batch_size": 2, **entry}],
    }
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({**EXPERIMENT, "data": data, "output": str(output)}))
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "model.pt"
    torch.manual_seed(0)
    checkpoint.save(XDecoder(parse(ExperimentConfig, {**EXPERIMENT, "data": {}, "output": "x"}).model), path)
    return path


class Told:
    """What each program does with a set: its exit status and its words."""

    def __init__(self, own: Path, work: Path, network: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.own, self.work, self.network, self.capsys = own, work, network, capsys
        self.yaml = experiment(work, own, work / "run", classes=(own / "box").is_dir())

    def check(self) -> tuple[int, str]:
        self.capsys.readouterr()
        return check([str(self.own)]), self.capsys.readouterr().out

    def train(self) -> tuple[int, str]:
        return self._run("train", [str(self.yaml)])

    def evaluate(self) -> tuple[int, str]:
        return self._run("eval", [str(self.yaml), "--checkpoint", str(self.network), "--fresh", "--images", "0"])

    def _run(self, program: str, arguments: list[str]) -> tuple[int, str]:
        self.capsys.readouterr()
        status = importlib.import_module(program).main(arguments)
        said = self.capsys.readouterr()
        assert "Traceback" not in said.err
        return status, said.out + said.err


Programs = Callable[[Path], Told]


@pytest.fixture
def programs(tmp_path: Path, network: Path, capsys: pytest.CaptureFixture[str]) -> Programs:
    return lambda own: Told(own, tmp_path, network, capsys)


def twins(content: dict[str, Any]) -> None:
    content["images"][1]["id"] = content["images"][0]["id"]


def root_category(content: dict[str, Any]) -> None:
    content["categories"] = [{"id": 0, "name": "shapes", "supercategory": "none"}] + [
        {**row, "supercategory": "shapes"} for row in content["categories"]
    ]


def renamed(old: str, new: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for row in content["categories"]:
            row["name"] = new if row["name"] == old else row["name"]

    return change


def as_text(key: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for row in content["annotations"]:
            row[key] = str(row[key])

    return change


def as_stored(content: dict[str, Any]) -> None:
    """Label Studio's way: outlines as displayed, sizes as stored."""
    each("images", width=48, height=64)(content)
    outline([[50, 9, 60, 9, 60, 30]])(content)


def two_yamls(folder: Path) -> Path:
    yolo(folder, None)
    for name in ("x.yaml", "y.yml"):
        (folder / name).write_text("names: [a, b]")
    return folder


def with_list(folder: Path, lines: str) -> Path:
    (yolo(folder, "train: t.txt\nnames: [box, disc]\n") / "t.txt").write_text(lines)
    return folder


def unread(folder: Path) -> Path:
    """The set of this folder, with a photograph in it as phones store them."""
    (folder / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    return folder.parent


def unlabelled(folder: Path) -> Path:
    for path in (masks(folder) / "masks").iterdir():
        Image.new("L", (64, 48), 255).save(path)
    return folder


def label_folder(folder: Path) -> Path:
    path = yolo(folder) / "labels/train/p0.txt"
    path.unlink()
    path.mkdir()
    return folder


def splits_of_classes(*folders: str) -> Case:
    def make(folder: Path) -> Path:
        for number, name in enumerate(folders):
            save(folder / name, f"p{number}.jpg", number)
        return folder

    return make


def supervisely(folder: Path) -> Path:
    save(folder / "ds0/img", "p0.jpg", 0)
    (folder / "ds0/ann").mkdir()
    (folder / "ds0/ann/p0.jpg.json").write_text("{}")
    (folder / "meta.json").write_text('{"classes": []}')
    return folder


def panoptic(folder: Path) -> Path:
    """A panoptic set whose categories do not say which are things."""
    coco(folder)
    content = json.loads((folder / "annotations.json").read_text())
    content["annotations"] = []
    for i in range(6):
        colours = np.zeros((48, 64, 3), dtype=np.uint8)
        colours[9:19, 16:28, 0] = 7
        path = folder / f"annotations/p{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(colours).save(path)
        segments = [{"id": 7, "category_id": 1, "iscrowd": 0}]
        content["annotations"].append({"image_id": i + 1, "file_name": f"p{i}.png", "segments_info": segments})
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def panoptic_things(folder: Path) -> Path:
    content = json.loads((panoptic(folder) / "annotations.json").read_text())
    each("categories", isthing=1)(content)
    content["categories"][1]["name"] = "background"
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def linked(folder: Path) -> Path:
    """Folders that are links, one of them back to where it lies."""
    masks(folder.with_name("elsewhere"))
    folder.mkdir()
    (folder / "images").mkdir()
    (folder / "images/all").symlink_to(folder.with_name("elsewhere") / "images")
    (folder / "images/back").symlink_to(folder / "images")
    (folder / "masks").mkdir()
    (folder / "masks/all").symlink_to(folder.with_name("elsewhere") / "masks")
    (folder / "classes.txt").write_text("floor\nbox\ndisc\n")
    return folder


def files(name: Callable[[str], str]) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for row in content["images"]:
            row["file_name"] = name(row["file_name"])

    return change


def encoded(encoding: str) -> Callable[[dict[str, Any]], bytes]:
    return lambda content: json.dumps(content).encode(encoding)


def in_folders(folder: Path) -> Path:
    yolo(folder)
    for side in ("images", "labels"):
        (folder / side / "train/day1").mkdir()
        for path in sorted((folder / side / "train").glob("p[01].*")):
            path.rename(path.parent / "day1" / path.name)
    return folder


def listed(folder: Path) -> Path:
    yolo(folder, "train: train.txt\nval: [val.txt]\ntest: nowhere\nnames: {'0': box, '1': disc}\nnc: 2\n")
    (folder / "train.txt").write_bytes("\ufeff./images/train/p0.jpg\r\n./images/train/p1.jpg\r\n\r\n".encode())
    (folder / "val.txt").write_text("./images/val/p4.jpg\nimages/val/p5.jpg\nimages/train/p2.jpg\n")
    return folder


def with_hidden(folder: Path) -> Path:
    for path in [path for path in folder.rglob("*.*") if path.is_file()]:
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\x16\7")
        for strange in (".ipynb_checkpoints", "__MACOSX"):
            (path.parent / strange).mkdir(exist_ok=True)
            (path.parent / strange / path.name).write_bytes(path.read_bytes())
    return folder


def webp(folder: Path) -> Path:
    masks(folder)
    for number, suffix in enumerate((".webp", ".bmp", ".tif", ".JPG")):
        path = folder / f"images/p{number}.jpg"
        with Image.open(path) as image:
            image.save(path.with_suffix(suffix))
        path.unlink()
    return folder


def same_stem(folder: Path) -> Path:
    yolo(folder)
    save(folder / "images/val", "p4.png", 4)
    return folder


def deep(folder: Path) -> Path:
    return coco(folder, lambda content: "[" * 100_000)


def decomposed(folder: Path) -> Path:
    coco(folder, files(lambda name: f"images/ä {name}".replace(" ", "%20")))
    for path in list((folder / "images").iterdir()):
        path.rename(path.with_name(unicodedata.normalize("NFD", f"ä {path.name}")))
    return folder


READ: dict[str, tuple[Case, int]] = {
    "as usual": (coco, 6),
    "area null": (lambda f: coco(f, each("annotations", area=None)), 6),
    "ids as text": (
        lambda f: coco(f, lambda c: [row.update(image_id=str(row["image_id"])) for row in c["annotations"]] and None),
        6,
    ),
    "category ids as text": (
        lambda f: coco(f, lambda c: [row.update(category_id=str(row["category_id"])) for row in c["annotations"]] and None),
        6,
    ),
    "sizes as text": (lambda f: coco(f, each("images", width="64", height="48")), 6),
    "crowd as text": (lambda f: coco(f, each("annotations", iscrowd="0")), 6),
    "a name that is a number": (lambda f: coco(f, renamed("disc", 3)), 6),
    "Roboflow's root": (lambda f: coco(f, root_category), 6),
    "backslashes": (lambda f: coco(f, files(lambda name: f"images\\{name}")), 6),
    "escapes and Unicode": (decomposed, 6),
    "other case": (lambda f: coco(f, files(str.upper)), 6),
    "another computer's path": (lambda f: coco(f, files(lambda name: f"C:\\Users\\me\\{name}")), 6),
    "UTF-16": (lambda f: coco(f, encoded("utf-16")), 6),
    "byte order mark": (lambda f: coco(f, encoded("utf-8-sig")), 6),
    "pairs of corners": (lambda f: coco(f, outline([[16, 9], [28, 9], [28, 19]])), 6),
    "a flat polygon": (lambda f: coco(f, outline(BOX)), 6),
    "run lengths in a list": (lambda f: coco(f, outline([{"size": [48, 64], "counts": [777, 10, 2285]}])), 6),
    "turned, size as displayed": (lambda f: coco(f, orientation=6), 6),
    "turned, outlines beyond": (lambda f: coco(f, as_stored, 6), 6),
    "YOLO in folders": (in_folders, 6),
    "YOLO lists": (listed, 5),
    "YOLO without YAML": (lambda f: (masks(f / "x"), yolo(f, None), (f / "classes.txt").write_text("box\ndisc"))[1], 6),
    "YOLO of one stem": (same_stem, 7),
    "two YAMLs": (lambda f: (yolo(f), (f / "a.yaml").write_text("names: [x, y, z]"))[0], 6),
    "webp, bmp, tif, JPG": (webp, 6),
    "1-bit masks": (lambda f: masks(f, b"floor\nbox\n", mode="1"), 6),
    "class list of Notepad": (lambda f: masks(f, "floor\r\n\r\nbox  \r\ndisc\r\n".encode("utf-8-sig")), 6),
    "numbered class list": (lambda f: masks(f, b"0: floor\n1: box\n2: disc\n"), 6),
    "background as class 0": (lambda f: masks(f, b"Background\nbox\ndisc\n"), 6),
    "mmsegmentation": (lambda f: masks(f, images="img_dir/train", labels="ann_dir/train"), 6),
    "Pascal VOC": (voc, 6),
    "CVAT's Pascal VOC": (lambda f: voc(f, "# label:color_rgb\nbackground:0,0,0::\nbox:200,0,0::\ndisc:0,0,200::\n"), 6),
    "panoptic": (panoptic_things, 6),
    "linked folders": (linked, 6),
    "LabelMe": (labelme, 6),
    "LabelMe rectangles": (lambda f: labelme(f, "rectangle"), 6),
    "class folders": (class_folders, 8),
    "class folders of one name": (splits_of_classes("a/1", "a/2", "a/3", "b/1", "b/2", "b/3"), 6),
    "fewer classes to measure": (splits_of_classes("train/a", "train/b", "train/c", "val/a", "val/b"), 5),
    "hidden files, COCO": (lambda f: with_hidden(coco(f)), 6),
    "hidden files, YOLO": (lambda f: with_hidden(yolo(f)), 6),
    "hidden files, masks": (lambda f: with_hidden(masks(f)), 6),
    "hidden files, class folders": (lambda f: with_hidden(class_folders(f)), 8),
}
"""Sets that are read, and how many pictures they have."""

REFUSED: dict[str, tuple[Case, str]] = {
    "corner NaN": (
        lambda f: coco(f, outline([[float("nan"), *BOX[1:]]], True)),
        "annotation 1 of picture 1: .* finite number",
    ),
    "corner inf": (lambda f: coco(f, outline([[float("inf"), *BOX[1:]]], True)), "not a finite number"),
    "corner far": (
        lambda f: coco(f, outline([[2e8, *BOX[1:]]])),
        "a corner at 2e\\+08, far outside of its picture, whose longer side is 64",
    ),
    "counts short": (lambda f: coco(f, outline({"size": [48, 64], "counts": [777, 10]})), "counts that make 787 pixels"),
    "counts negative": (lambda f: coco(f, outline({"size": [48, 64], "counts": [-5, 3077]})), "a count of -5"),
    "counts cut": (lambda f: coco(f, outline({"size": [48, 64], "counts": "Yh0:V1000ge"})), "counts that"),
    "counts of another size": (
        lambda f: coco(f, outline({"size": [64, 48], "counts": [777, 10, 2285]})),
        "not the picture's",
    ),
    "outline a text": (lambda f: coco(f, outline("1 2 3")), "neither a list of polygons nor an RLE but a text"),
    "all crowds": (lambda f: coco(f, each("annotations", iscrowd=1)), "all of its 12 objects are crowds"),
    "no outlines": (lambda f: coco(f, outline([])), "its annotations are boxes only"),
    "four numbers": (lambda f: coco(f, outline([[1, 2, 3, 4]])), "has no object with an outline"),
    "blank category": (lambda f: coco(f, renamed("disc", "  ")), "a class name is blank"),
    "unlisted pictures": (
        lambda f: coco(f, each("annotations", image_id=99)),
        "of picture 99, which 'images' does not list",
    ),
    "unlisted category": (lambda f: coco(f, each("annotations", category_id=7)), "category 7, which is none of the set's"),
    "ids twice": (lambda f: coco(f, twins), "images have the id 1 more than once"),
    "annotation ids twice": (lambda f: coco(f, each("annotations", id=1)), "annotations have the id 1 more than once"),
    "a list for an id": (lambda f: coco(f, each("annotations", image_id=[1])), "'image_id' is \\[1\\]"),
    "a text for a list": (lambda f: coco(f, lambda c: json.dumps({**c, "categories": "box"})), "'categories' to be a list"),
    "nested deeply": (deep, "recursion limit"),
    "half a character": (lambda f: coco(f, lambda c: json.dumps(c)[:-1] + ', "x": "\\ud83d"}'), "not valid JSON"),
    "YOLO class inf": (lambda f: yolo(f, lines=["inf 0 0 0.1 0 0.1 0.1"]), "line 1: its class is inf"),
    "YOLO corner NaN": (lambda f: yolo(f, lines=["0 nan 0 0.1 0 0.1 0.1"]), "not a finite number"),
    "YOLO boxes": (lambda f: yolo(f, lines=[*LINES, "1 0.5 0.5 0.1 0.1"]), "line 3: holds a box"),
    "YOLO empty": (lambda f: yolo(f, lines=[]), "hold no object"),
    "YOLO list of nothing": (lambda f: with_list(f, ""), "t.txt: lists no picture"),
    "YOLO list of what is not there": (
        lambda f: with_list(f, "nope.jpg"),
        "nope.jpg: no such picture, nor any other that .*t.txt",
    ),
    "names that differ in case": (lambda f: coco(f, renamed("disc", "BOX")), "'box' and 'BOX' are read alike"),
    "a name that nobody sees": (lambda f: coco(f, renamed("disc", "\u200b")), "a class name is blank"),
    "class list numbered from 1": (lambda f: masks(f, b"1 floor\n2 box\n3 disc\n"), "begin with numbers, but not 0, 1, 2"),
    "one colour for two classes": (
        lambda f: voc(f, "background:0,0,0::\nbox:200,0,0::\ndisc:200,0,0::\n"),
        "class 'disc' has the colour of another one",
    ),
    "YOLO nc": (lambda f: yolo(f, "names: [box, disc]\nnc: 3\n"), "says nc: 3, but 'names' has 2 classes"),
    "YOLO yes and no": (lambda f: yolo(f, "names: [yes, no]\n"), "need quotes"),
    "YOLO path": (lambda f: yolo(f, "path: /content/data\ntrain: images/train\nnames: [box, disc]\n"), "is no folder here"),
    "YOLO train": (lambda f: yolo(f, "train: pictures\nnames: [box, disc]\n"), "'train' names .*pictures, which is not there"),
    "two naming YAMLs": (two_yamls, "both name"),
    "masks as JPEG": (lambda f: masks(f, suffix=".jpg"), "save masks as PNG"),
    "one class and background": (lambda f: masks(f, b"background\nbox\n", mode="1"), "would be right everywhere"),
    "mmsegmentation without classes": (lambda f: masks(f, None, "img_dir/train", "ann_dir/train"), "classes.txt: no such file"),
    "all unlabelled": (unlabelled, "all pixels of its masks are 255"),
    "a class that is not learnt": (
        splits_of_classes("train/a", "train/b", "val/a", "val/c"),
        "val/c: is a class that .*train has no",
    ),
    "label file a folder": (label_folder, "p0.txt: is a folder"),
    "Supervisely": (supervisely, "is a Supervisely project, which is not read here; export it as COCO"),
    "panoptic without isthing": (panoptic, "category 'box' lacks 'isthing'"),
    "pipe as class list": (lambda f: pipe(masks(f) / "classes.txt").parent, "is a pipe, a socket or a device"),
    "pipe as JSON": (lambda f: pipe(coco(f) / "annotations.json").parent, "is a pipe, a socket or a device"),
    "pipe as YAML": (lambda f: pipe(yolo(f) / "data.yaml").parent, "is a pipe, a socket or a device"),
}
"""Sets that are refused, and why."""

LEFT_OUT: dict[str, tuple[Case, str]] = {
    "a point beside polygons": (lambda f: coco(f, outline([], True)), "annotation 1 of picture 1 has no outline"),
    "class folder background": (
        splits_of_classes(*(f"{name}/{i}" for name in ("box", "disc", "background") for i in "1234")),
        "background is no class",
    ),
    "a format that is not read": (lambda f: unread(class_folders(f) / "box"), "a.HEIC: is in a format that is not read"),
    "a format that is not read, masks": (lambda f: unread(masks(f) / "images"), "a.HEIC: is in a format that is not read"),
    "a format that is not read, YOLO": (lambda f: unread(yolo(f) / "images/train").parent, "a.HEIC: is in a format"),
    "beside the class folders": (
        lambda f: (class_folders(f), save(f, "p9.jpg", 9))[0],
        "p9.jpg: lies in no class's folder, and is left out",
    ),
    "a mask too many": (lambda f: (masks(f), save(f / "masks", "zz.png", 1))[0], "zz.png: belongs to no picture"),
    "beside the picture": (lambda f: coco(f, outline([[70, 70, 80, 70, 80, 80]], True)), "covers no pixel of its picture"),
    "no area": (lambda f: coco(f, outline([[5, 5, 5, 5, 5, 5]], True)), "covers no pixel of its picture"),
    "category background": (lambda f: coco(f, renamed("box", "BackGround")), "of a category called background"),
}
"""Sets that are read but for something that is named."""


@pytest.mark.parametrize("name", READ)
def test_what_can_be_read_is_read(name: str, tmp_path: Path, programs: Programs) -> None:
    make, count = READ[name]
    set_ = programs(make(tmp_path / "own"))
    status, text = set_.check()
    assert status == 0 and "nothing wrong was found" in text, text
    assert sum(int(number) for number in re.findall(r": (\d+) pictures", text)) == count


@pytest.mark.parametrize(
    "name", ["as usual", "run lengths in a list", "YOLO lists", "CVAT's Pascal VOC", "LabelMe", "class folders"]
)
def test_what_is_read_is_learnt_and_measured(name: str, tmp_path: Path, programs: Programs) -> None:
    set_ = programs(READ[name][0](tmp_path / "own"))
    for status, text in (set_.train(), set_.evaluate()):
        assert status == 0, text


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_sentence(name: str, tmp_path: Path, programs: Programs) -> None:
    make, sentence = REFUSED[name]
    set_ = programs(make(tmp_path / "own"))
    status, text = set_.check()
    assert status == 1 and re.search(sentence, text), text
    late = name in ("corner far", "counts cut", "counts of another size")  # which pictures tell
    for program in (set_.train, set_.evaluate):
        status, said = program()
        assert status == 2 and re.search(sentence, said.splitlines()[-1]), said
        assert late or any(line.startswith("error: ") for line in said.splitlines())


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_is_named(name: str, tmp_path: Path, programs: Programs, caplog: pytest.LogCaptureFixture) -> None:
    make, sentence = LEFT_OUT[name]
    set_ = programs(make(tmp_path / "own"))
    status, text = set_.check()
    assert status == 1 and re.search(sentence, text), text
    with caplog.at_level(logging.WARNING):
        status, said = set_.train()
    assert status == 0, said
    assert re.search(sentence, said + caplog.text)


def test_the_yaml_itself_may_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = yolo(tmp_path / "own") / "data.yaml"
    assert check([str(path)]) == 0 and "own_val: 2 pictures" in capsys.readouterr().out


def test_findings_are_told_once_with_their_classes(tmp_path: Path, programs: Programs) -> None:
    status, text = programs(coco(tmp_path / "own", outline({"size": [48, 64], "counts": [1]}))).check()
    assert status == 1 and text.count("counts that make") == 1 and "(12 like this: 6 box, 6 disc)" in text
    assert "mend these annotations" in text


def test_the_same_pixels_whichever_way_a_photograph_is_stored(tmp_path: Path) -> None:
    from datasets.loader import evaluation_loader
    from datasets.streams import DataConfig

    masks_of = []
    for name, turned in (("upright", 1), ("turned", 6)):
        own = coco(tmp_path / name, orientation=turned)
        data = load_data(own, DataConfig)
        (batch, *_) = evaluation_loader(data.evaluate[0], data.root)
        sample = batch.samples[0]
        assert sample.segments is not None
        masks_of.append(sample.segments.masks)
        assert sample.output_size == (48, 64)
    assert torch.equal(*masks_of)


def load_data(own: Path, schema: Any) -> Any:
    entry = {"dataset": "own_val", "tasks": ["segmentation"], "transform": {"name": "stretch", "size": 64}}
    return parse(schema, {"own": str(own), "evaluate": [entry]})


CASES_TOLD = {
    "category-background": "called background",
    "category-blank": "blank",
    "cvat-all-crowd": "crowds",
    "exif-stored-size": "stored turned",
    "masks-jpg": "PNG",
    "pass-black-and-white-masks": "black and white",
    "pass-truncated": "damaged",
    "pass-yolo-boxes-mixed": "line 3: holds a box",
    "poly-nan": "finite number",
    "rle-too-short": "counts that make",
    "yolo-class-inf": "its class is inf",
}
"""Of the shared cases those that are told, and by which words; the others are read."""


def shared_cases() -> list[str]:
    folder = Path(__file__).resolve().parents[2].parent / "shared/cases"
    return sorted(path.parent.name for path in folder.glob("*/input")) if folder.is_dir() else ["none"]


@pytest.mark.slow
@pytest.mark.parametrize("name", shared_cases())
def test_shared_cases(name: str, shared: Path, tmp_path: Path, programs: Programs) -> None:
    """Every case of the folder, through all programs: what one says all say."""
    set_ = programs(shared / "cases" / name / "input")
    status, text = set_.check()
    sentence = CASES_TOLD.get(name)
    assert status == (0 if sentence is None else 1) and (sentence or "nothing wrong") in text, text
    refused = "cannot be read" in text
    for program in (set_.train, set_.evaluate):
        status, said = program()
        if not refused:
            assert status == 0 or (sentence and sentence in said), said
        elif status:
            assert status == 2 and sentence is not None and sentence in said, said
