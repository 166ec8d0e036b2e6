"""The files that people hand in, one healthy of each kind, how it is made wrong, and what is done with it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

import xdecoder
from datasets.evaluators.instance import read_annotations
from datasets.predictions import read_rows
from datasets.readers import own, read
from datasets.readers.coco_file import File
from datasets.readers.images import read_image, read_regions
from datasets.readers.own import OwnSpec
from tests.datasets.own_cases import LINES, coco, labelme, masks, voc, yolo
from tests.fuzz.mutations import EDITS, NUMBERS, OUTLINES, VALUES, Draw, changed, mutated
from tests.tiny import tiny_config, tiny_model
from trainer.experiment import ExperimentConfig
from xdecoder import checkpoint
from xdecoder.config import load
from xdecoder.files import read_json, read_lines
from xdecoder.published import checkpoints
from xdecoder.types import Vocabulary


@dataclass(frozen=True)
class Kind:
    """One kind of file."""

    make: Callable[[Path], Path]
    """Writes what is healthy below a folder; says which of the files is made wrong."""
    change: Callable[[bytes, Draw], bytes]
    """The file's content, made wrong."""
    use: Callable[[Path], Any]
    """Whatever reads it; called with the file's path."""
    named: bool = True
    """Whether every refusal names the file, or one that it names."""


def any_bytes(content: bytes, draw: Draw) -> bytes:
    return mutated(content, draw(EDITS))


def any_value(content: bytes, draw: Draw) -> bytes:
    """Of a JSON, which is YAML too."""
    return json.dumps(changed(json.loads(content), draw)).encode()


def written(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content)
        return path

    return make


# Checkpoints


@cache
def _ours() -> dict[str, Any]:
    model = tiny_model()
    settings = {"config": model.config.model_dump(mode="json"), "protocol": model.protocol.model_dump(mode="json")}
    return {"format": checkpoint.FORMAT, **settings, "origin": {"seed": 1}, "model": model.state_dict()}


def _checkpoint(name: str, folder: Path) -> Path:
    path = folder / name
    if name == "published.pt":
        checkpoints.save(tiny_model(), path)
    elif name == "old.pt":
        content = torch.load(_checkpoint("published.pt", folder), weights_only=True)
        torch.save(content, path, _use_new_zipfile_serialization=False)
    else:
        checkpoint.save(tiny_model(), path)
    return path


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


def _any_content(content: bytes, draw: Draw) -> bytes:
    file = io.BytesIO()
    torch.save(changed(_ours(), draw, TENSORS), file)
    return file.getvalue()


@cache
def _begun() -> Any:
    return tiny_model()


def _initialised(path: Path) -> None:
    checkpoints.initialise(_begun(), path)


# Configurations, lists, predictions

YAML = b"""
base: base.yaml
data:
  root: data
  train: [{dataset: shapes_train, tasks: [segmentation, referring], batch_size: 4, transform: &t {name: stretch, size: 64}}]
  evaluate: [{dataset: shapes_val, tasks: [segmentation], batch_size: 4, transform: *t}]
  workers: 2
model:
  backbone: {name: focal, width: 16, depths: [1, 1, 1, 1]}
  decoder: &d {queries: 9, layers: 4}
trainer: {steps: 10, learning_rate: 1e-4, evaluate_every: 5}
output: "runs/a"
"""
SETTINGS = {
    "data": {
        "train": [
            {
                **{"dataset": "shapes_train", "tasks": ["segmentation"], "batch_size": 4},
                "transform": {"name": "stretch", "size": 64},
            }
        ],
        "evaluate": [],
    },
    "model": tiny_config().model_dump(mode="json"),
    "trainer": {"steps": 10, "learning_rate": 1e-4, "lora": {"rank": 2}},
    "tasks": {"segmentation": {"points": 9}},
    "output": "runs/a",
}


def _yaml(folder: Path) -> Path:
    (folder / "base.yaml").write_text("seed: 1\n")
    return written("a.yaml", YAML)(folder)


def _names(path: Path) -> None:
    names = read_lines(path)
    assert all(name and name == name.strip() for name in names)
    try:
        Vocabulary(tuple(names), (True,) * len(names))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _any_encoding(content: bytes, draw: Draw) -> bytes:
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    return any_bytes(content.decode().encode(encoding), draw)


ROWS = [
    {
        **{"image_id": i, "category_id": 1, "score": 0.5, "segmentation": {"size": [4, 6], "counts": [24]}, "caption": "a"},
        **{"question_id": i, "answer": "a", "index": 0, "ious": [[0.5]], "seconds": 1.0, "passes": 1, "labels": [0]},
        **{"scores": [0.5], "file_name": "a.png", "segments_info": [{"id": 1, "category_id": 1}]},
    }
    for i in range(3)
]
PREDICTIONS = ("instances", "captions", "panoptic", "classes", "answers", "referring", "interactive")


def _predictions(path: Path) -> None:
    """As each kind in turn, since a row has the keys of all."""
    kind = PREDICTIONS[path.stat().st_size % len(PREDICTIONS)]
    read_rows(path, f"{kind}.json", {0, 1, 2})


# Data sets


def use_set(folder: Path) -> None:
    """What training does of a set: find out its format, read it, decode its pictures; and what an evaluator does."""
    for part in ("train", "val"):
        spec = own.find(OwnSpec(name=f"own_{part}", images=str(folder), part=part))
        source = read(spec, "nowhere")
        for record in source.records:
            pixels = read_image(record)
            if source.vocabulary is not None and (record.regions is not None or record.id_map is not None):
                regions = read_regions(record, spec, source.vocabulary, pixels.shape[:2])
                assert regions.masks().dtype == np.bool_ and regions.masks().shape[1:] == pixels.shape[:2]
        if source.vocabulary is not None and (folder / "annotations.json").is_file():
            read_annotations(File.read(folder / "annotations.json"), source.vocabulary, None)
        if spec.part is not None:
            break  # the other share comes from the same files


def _of_set(make: Callable[[Path], Path], name: str, change: Callable[[bytes, Draw], bytes] = any_bytes) -> Kind:
    """A file of a set, by its path in it; the set is used as a whole."""
    above = len(Path(name).parts) - 1
    return Kind(lambda folder: make(folder / "set") / name, change, lambda path: use_set(path.parents[above]), named=False)


def _any_outlines(content: bytes, draw: Draw) -> bytes:
    found = json.loads(content)
    for row, outline in zip(found["annotations"], draw(st.lists(OUTLINES, min_size=1, max_size=3)), strict=False):
        row["segmentation"] = outline
    return json.dumps(found).encode()


def _any_words(content: bytes, draw: Draw) -> bytes:
    words = draw(st.lists(st.lists(NUMBERS.map(str) | st.text(max_size=5), max_size=9), max_size=4))
    return "\n".join([*LINES, *(" ".join(line) for line in words)]).encode(errors="replace")


def _yaml_set(yaml: str) -> Callable[[Path], Path]:
    return lambda folder: yolo(folder, yaml)


DATA_YAML = "path: .\ntrain: images/train\nval: [images/val]\nnc: 2\nnames: {0: box, 1: disc}\n"
LABELMAP = "background:0,0,0::\nbox:200,0,0::\ndisc:0,0,200::\n"
DATA_JSON = json.dumps({"path": ".", "train": "images/train", "val": ["images/val"], "nc": 2, "names": ["box", "disc"]})

KINDS: dict[str, Kind] = {
    **{
        f"bytes of a checkpoint, {name}": Kind(partial(_checkpoint, name), any_bytes, xdecoder.load)
        for name in ("a.pt", "a.safetensors", "old.pt", "published.pt")
    },
    "content of a checkpoint": Kind(partial(_checkpoint, "a.pt"), _any_content, xdecoder.load),
    "content of initial weights": Kind(partial(_checkpoint, "a.pt"), _any_content, _initialised),
    "bytes of an experiment": Kind(_yaml, any_bytes, partial(load, ExperimentConfig)),
    "content of an experiment": Kind(
        written("a.yaml", json.dumps(SETTINGS).encode()), any_value, partial(load, ExperimentConfig)
    ),
    "bytes of a class list": Kind(
        written("classes.txt", "star\r\n  ring\n\nHäuschen \t\nblue sky\n".encode()), _any_encoding, _names
    ),
    "content of predictions": Kind(written("a.json", json.dumps(ROWS).encode()), any_value, _predictions),
    "bytes of predictions": Kind(written("a.json", json.dumps(ROWS).encode()), any_bytes, read_json),
    "bytes of a COCO JSON": _of_set(coco, "annotations.json"),
    "content of a COCO JSON": _of_set(coco, "annotations.json", any_value),
    "outlines of a COCO JSON": _of_set(coco, "annotations.json", _any_outlines),
    "bytes of data.yaml": _of_set(_yaml_set(DATA_YAML), "data.yaml"),
    "content of data.yaml": _of_set(_yaml_set(DATA_JSON), "data.yaml", any_value),
    "bytes of YOLO labels": _of_set(yolo, "labels/train/p0.txt"),
    "words of YOLO labels": _of_set(yolo, "labels/train/p0.txt", _any_words),
    "bytes of a set's class list": _of_set(masks, "classes.txt"),
    "bytes of a labelmap": _of_set(lambda folder: voc(folder, LABELMAP), "labelmap.txt"),
    "bytes of a list of pictures": _of_set(voc, "ImageSets/Segmentation/train.txt"),
    "bytes of a LabelMe JSON": _of_set(labelme, "p0.json"),
    "content of a LabelMe JSON": _of_set(labelme, "p0.json", any_value),
    "bytes of a mask": _of_set(masks, "masks/p0.png"),
    "bytes of a picture": _of_set(coco, "images/p0.jpg"),
}
