"""Phrases that mean nothing in their picture: asked for when measuring, and learnt from."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from datasets.catalog import find
from datasets.dataset import ImageDataset
from datasets.prepare.shapes import prepare
from datasets.readers import read
from datasets.readers.coco import CocoSpec
from datasets.shapes import SEEN, pair_named
from xdecoder.resizing import Stretch


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    prepare(root, train=40, val=12, novel=1)
    return root


def test_what_is_asked_of_a_generated_picture(root: Path) -> None:
    scenes = json.loads((root / "shapes/annotations/scenes_val.json").read_text())["images"]
    pairs = {scene["image_id"]: [(o["colour"], o["shape"]) for o in scene["objects"]] for scene in scenes}
    kinds: Counter[str] = Counter()
    for name, rest in (("shapes_absent", 0), ("shapes_absent_fit", 1)):
        data = ImageDataset(find(name), root, Stretch(size=32), ["referring"], training=False)
        assert [record.id for record in data.records] == [key for key in pairs if key % 2 == rest]
        for sample in (data[i] for i in range(len(data))):
            there = pairs[sample.id]
            for text, kind, mask in zip(sample.phrases.texts, sample.phrases.kinds, sample.phrases.masks, strict=True):
                colour, shape = pair_named(text).split()
                kinds[kind] += 1
                assert mask.any() == (kind in ("one", "several")) == ((colour, shape) in there)
                if kind == "easy":
                    assert colour not in {c for c, _ in there} and shape not in {s for _, s in there}
                elif kind == "hard":
                    assert colour in {c for c, _ in there} and shape in {s for _, s in there}
                else:
                    assert kind == ("one" if there.count((colour, shape)) == 1 else "several")
                assert (colour, shape) in SEEN
    assert kinds["easy"] == 12 and kinds["hard"] > 3


def test_sets_of_earlier_days_get_the_list_too(root: Path) -> None:
    path = root / "shapes/annotations/grefs_val.json"
    before = path.read_bytes()
    path.unlink()
    assert not prepare(root, train=40, val=12, novel=1)
    assert path.read_bytes() == before


def test_phrases_of_other_pictures_are_about_what_is_not_there(root: Path) -> None:
    def samples(absent: int) -> list:
        data = ImageDataset(
            find("shapes_train"), root, Stretch(size=32), ["referring"], training=True, max_phrases=8, absent_phrases=absent
        )
        return [(data[i, epoch], data.records[i]) for i in range(len(data)) for epoch in (0, 1)]

    said = {text for _, record in samples(0) for reference in record.references for text in reference.sentences}
    count, alone = 0, 0
    for (sample, record), (same, _), (plain, _) in zip(samples(4), samples(4), samples(0), strict=True):
        assert sample.phrases.absent == same.phrases.absent and plain.phrases.absent == ()
        assert sample.phrases.texts == plain.phrases.texts or (sample.phrases.texts == () and sample.phrases.absent)
        assert len(sample.phrases.masks) == len(sample.phrases.texts)
        for text in sample.phrases.absent:
            assert text in said and pair_named(text) not in record.shows
        assert len(set(sample.phrases.absent)) == len(sample.phrases.absent) <= 4
        count, alone = count + len(sample.phrases.absent), alone + (not sample.phrases.texts)
    assert count > 80 and 0 < alone < 40


def test_categories_say_what_is_there_in_other_sets(root: Path) -> None:
    spec = find("shapes_train").model_copy(update={"scenes": None})
    for record in read(spec, root).records:
        assert all(reference.about in record.shows for reference in record.references)
    bare = CocoSpec(name="bare", images=spec.images, phrases=spec.phrases)
    assert {record.shows for record in read(bare, root).records} == {None}, "where nobody says what is there, nothing is absent"
