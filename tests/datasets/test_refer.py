"""Pickled referring expressions: plain ones are read, others never run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from datasets.readers import read
from datasets.readers.refer import ReferSpec, refs
from tests.datasets.official import refer

SPEC = ReferSpec(
    name="tiny",
    images="coco/train2017",
    phrases="refcocoseg/refcoco/refs(unc).p",
    subset="testA",
    instances="refcocoseg/refcoco/instances.json",
    image_rename=(("COCO_train2014_", ""),),
)


class Attack:
    """What a hostile pickle does: calls a function when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    refer(tmp_path, "refcoco", "unc", "testA", False)
    rows = [{"ann_id": 10, "split": "testA", "sentences": [Attack(tmp_path / "taken")]}]
    (tmp_path / SPEC.phrases).write_bytes(pickle.dumps(rows))  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"refs\(unc\).p: expected a pickle of plain lists and texts.*mkdir") as caught:
        read(SPEC, tmp_path)
    assert not (tmp_path / "taken").exists() and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<!DOCTYPE html>",
        pickle.dumps([1, 2])[:-3],
        pickle.dumps({"a": 1}),
        pickle.dumps([3]),
    ],
)
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "refs(unc).p"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"refs\(unc\).p: (expected|entry 0)"):
        refs(path, "val")
    with pytest.raises(ValueError, match="nowhere.p: no such file"):
        refs(tmp_path / "nowhere.p", "val")


def test_splits(tmp_path: Path) -> None:
    """As REFER has them: letters of a test split may be written together."""
    path = tmp_path / "refs(unc).p"
    splits = ("train", "testA", "testAB", "testB", "val")
    rows = [{"ann_id": i, "split": split, "sentences": []} for i, split in enumerate(splits)]
    path.write_bytes(pickle.dumps(rows))
    found = {split: [row["ann_id"] for row in refs(path, split)] for split in ("train", "val", "testA", "testB", "test")}
    assert found == {"train": [0], "val": [4], "testA": [1, 2], "testB": [2, 3], "test": [1, 2, 3]}
    with pytest.raises(ValueError, match="has no split 'testC'; its splits are testA, testAB, testB, train, val"):
        refs(path, "testC")


def test_python_2_texts(tmp_path: Path) -> None:
    """The authors' files were written by Python 2, whose texts are bytes."""
    path = tmp_path / "refs(unc).p"
    path.write_bytes(b"(lp0\n(dp1\nS'split'\np2\nS'val'\np3\nsS'ann_id'\np4\nI7\nsS'sentences'\np5\n(lp6\nsa.")
    assert refs(path, "val") == [{"split": "val", "ann_id": 7, "sentences": []}]


def test_annotations_that_are_not_there(tmp_path: Path) -> None:
    refer(tmp_path, "refcoco", "unc", "testA", False)
    rows = [{"ann_id": 99, "split": "testA", "sentences": []}]
    (tmp_path / SPEC.phrases).write_bytes(pickle.dumps(rows))  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"instances.json: lacks annotation 99"):
        read(SPEC, tmp_path)
