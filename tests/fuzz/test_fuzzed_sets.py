"""Mutated data sets of every format: each is read and decoded, or refused in one sentence, in little time and memory.

`FUZZ=20 pytest tests/fuzz` tries twenty times as many.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from datasets.evaluators.instance import read_annotations
from datasets.readers import own, read
from datasets.readers.coco import File
from datasets.readers.images import read_image, read_regions
from datasets.readers.own import OwnSpec
from tests.datasets.own_cases import LINES, coco, labelme, masks, voc, yolo
from tests.fuzz.test_fuzzed_files import EDITS, MEMORY, SECONDS, VALUES, changed, fuzz, mutated

NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-(2**40), 2**40),
    st.sampled_from([float("nan"), float("inf"), 2e8, -1, 0, 1, 1e308, "7", None, True, [], [1, 2]]),
)
OUTLINES = st.one_of(
    st.lists(st.lists(NUMBERS, max_size=9), max_size=3),
    st.lists(NUMBERS, max_size=9),
    st.fixed_dictionaries(
        {
            "size": st.sampled_from([[48, 64], [64, 48], [1e9, 1], "48", [48], [2**31, 2**31]]),
            "counts": st.lists(NUMBERS, max_size=6),
        }
    ),
    st.fixed_dictionaries({"size": st.just([48, 64]), "counts": st.text(max_size=30)}),
    VALUES,
)


def use(path: Path) -> None:
    """What training does of a set: find out its format, read it, decode its pictures; and what an evaluator does."""
    for part in ("train", "val"):
        spec = own.find(OwnSpec(name=f"own_{part}", images=str(path.absolute()), part=part))
        source = read(spec, "nowhere")
        for record in source.records:
            pixels = read_image(record)
            if source.vocabulary is not None and (record.regions is not None or record.id_map is not None):
                regions = read_regions(record, spec, source.vocabulary, pixels.shape[:2])
                assert regions.masks().dtype == np.bool_ and regions.masks().shape[1:] == pixels.shape[:2]
        if source.vocabulary is not None and (path / "annotations.json").is_file():
            read_annotations(File.read(path / "annotations.json"), source.vocabulary, None)
        if spec.part is not None:
            break  # the other share comes from the same files


@contextmanager
def used_or_refused() -> Iterator[None]:
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        yield
    except (ValidationError, UnicodeError) as error:
        raise AssertionError("not ours") from error
    except ValueError as error:
        said = str(error)
        assert "\n" not in said and len(said) < 1500 and said.isprintable(), said
    assert time.process_time() - start < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY


SETS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "coco": (coco, "annotations.json"),
    "data.yaml": (
        lambda f: yolo(f, "path: .\ntrain: images/train\nval: [images/val]\nnc: 2\nnames: {0: box, 1: disc}\n"),
        "data.yaml",
    ),
    "labels": (yolo, "labels/train/p0.txt"),
    "class list": (masks, "classes.txt"),
    "labelmap": (lambda f: voc(f, "background:0,0,0::\nbox:200,0,0::\ndisc:0,0,200::\n"), "labelmap.txt"),
    "list": (voc, "ImageSets/Segmentation/train.txt"),
    "labelme": (labelme, "p0.json"),
    "mask": (masks, "masks/p0.png"),
    "picture": (coco, "images/p0.jpg"),
}
"""Sets, and the file of each that is mutated."""


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sets")
    return {name: make(root / name) for name, (make, _) in SETS.items()}


@pytest.mark.parametrize("name", SETS)
@fuzz(60)
@given(edits=EDITS)
def test_bytes(sets: dict[str, Path], name: str, edits: Any) -> None:
    path = sets[name] / SETS[name][1]
    before = path.read_bytes()
    path.write_bytes(mutated(before, edits))
    try:
        with used_or_refused():
            use(sets[name])
    finally:
        path.write_bytes(before)


@fuzz(400)
@given(data=st.data())
def test_content_of_coco(sets: dict[str, Path], data: st.DataObject) -> None:
    path = sets["coco"] / "annotations.json"
    before = path.read_bytes()
    path.write_text(json.dumps(changed(json.loads(before), data.draw)))
    try:
        with used_or_refused():
            use(sets["coco"])
    finally:
        path.write_bytes(before)


@fuzz(400)
@given(outlines=st.lists(OUTLINES, min_size=1, max_size=3))
def test_outlines_of_coco(sets: dict[str, Path], outlines: list[Any]) -> None:
    path = sets["coco"] / "annotations.json"
    before = path.read_bytes()
    content = json.loads(before)
    for row, outline in zip(content["annotations"], outlines, strict=False):
        row["segmentation"] = outline
    path.write_text(json.dumps(content))
    try:
        with used_or_refused():
            use(sets["coco"])
    finally:
        path.write_bytes(before)


@fuzz(150)
@given(words=st.lists(st.lists(NUMBERS.map(str) | st.text(max_size=5), max_size=9), max_size=4))
def test_lines_of_yolo(sets: dict[str, Path], words: list[list[str]]) -> None:
    path = sets["labels"] / "labels/train/p0.txt"
    path.write_text("\n".join([*LINES, *(" ".join(line) for line in words)]), encoding="utf-8", errors="replace")
    try:
        with used_or_refused():
            use(sets["labels"])
    finally:
        path.write_text("\n".join(LINES))


@fuzz(150)
@given(data=st.data())
def test_content_of_labelme(sets: dict[str, Path], data: st.DataObject) -> None:
    path = sets["labelme"] / "p0.json"
    before = path.read_bytes()
    path.write_text(json.dumps(changed(json.loads(before), data.draw)))
    try:
        with used_or_refused():
            use(sets["labelme"])
    finally:
        path.write_bytes(before)


@fuzz(100)
@given(data=st.data())
def test_content_of_data_yaml(sets: dict[str, Path], data: st.DataObject) -> None:
    path = sets["data.yaml"] / "data.yaml"
    before = path.read_bytes()
    content = {"path": ".", "train": "images/train", "val": ["images/val"], "nc": 2, "names": ["box", "disc"]}
    path.write_text(json.dumps(changed(content, data.draw)))
    try:
        with used_or_refused():
            use(sets["data.yaml"])
    finally:
        path.write_bytes(before)
