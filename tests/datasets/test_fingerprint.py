from __future__ import annotations

from pathlib import Path

import pytest

from datasets.fingerprint import differences, fingerprint
from datasets.spec import DatasetSpec
from xdecoder.config import parse


@pytest.fixture
def spec(tmp_path: Path) -> DatasetSpec:
    (tmp_path / "set" / "images" / "deep").mkdir(parents=True)
    for name in ("a.jpg", "deep/b.jpg"):
        (tmp_path / "set" / "images" / name).write_bytes(b"1234")
    (tmp_path / "set" / "all.json").write_text("{}")
    settings = {"name": "mine", "reader": "coco", "images": "set/images", "instances": "set/all.json"}
    return parse(DatasetSpec, settings)


def test_names_and_sizes_are_told_apart_and_where_they_lie_is_not(tmp_path: Path, spec: DatasetSpec) -> None:
    before = fingerprint([spec], tmp_path)
    assert before["mine"]["files"] == 3 and before["mine"]["bytes"] == 10
    moved = tmp_path.with_name(tmp_path.name + "_moved")
    tmp_path.rename(moved)
    assert fingerprint([spec], moved) == before and differences(before, before) == []
    image = moved / "set" / "images" / "a.jpg"
    for change in (
        lambda: image.write_bytes(b"12345"),
        lambda: image.rename(image.with_name("c.jpg")),
        image.with_name("c.jpg").unlink,
    ):
        change()
        (told,) = differences(before, fingerprint([spec], moved))
        assert told.startswith("data set 'mine': its files are not those that the run began with (3 files of 10 bytes")


def test_sets_that_came_or_went_are_the_settings_matter(tmp_path: Path, spec: DatasetSpec) -> None:
    now = fingerprint([spec], tmp_path)
    assert differences({}, now) == differences(now, {}) == []
