"""Class lists: whole, in order, and as the reference has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datasets.catalog.wild import NAMES
from xdecoder.language import vocabularies
from xdecoder.language.prompts import clean
from xdecoder.types import Vocabulary

# Ours, theirs, and which of their fields hold the name, the text and the id.
PAIRS = [
    ("coco_133", "coco_panoptic_133", "name", "name", "dataset_id"),
    ("coco_133:things", "coco_instance_80", "name", "name", "dataset_id"),
    ("coco_stuff_171", "coco_stuff_171", "name", "name", "dataset_id"),
    ("ade20k_150", "ade20k_150", "name", "name", None),
    ("ade20k_847", "ade20k_full_847", "official_name", "name", "dataset_id"),
    ("sunrgbd_37", "sunrgbd_37", "name", "name", "dataset_id"),
    ("sunrgbd_37", "scannet_37", "name", "name", "dataset_id"),
    ("scannet_20", "scannet_20", "name", "name", "dataset_id"),
    ("scannet_40", "scannet_40", "name", "name", "dataset_id"),
    ("cityscapes_19", "cityscapes_19", "name", "name", "dataset_id"),
    ("cityscapes_19", "bdd_19", "name", "name", None),
    ("bdd_40", "bdd_40", "name", "name", "dataset_id"),
    ("voc_20", "voc_20", "name", "name", "dataset_id"),
    ("pascal_context_59", "pascal_context_59", "name", "name", "dataset_id"),
    ("pascal_context_459", "pascal_context_459", "name", "name", "dataset_id"),
    ("imagenet_1000", "imagenet_1000", "name", "name", "wnid"),
]


def reference(shared: Path, name: str) -> Any:
    return json.loads((shared / "spec/vocab" / f"{name}.json").read_text())


@pytest.mark.parametrize(("ours", "theirs", "name", "text", "key"), PAIRS, ids=[theirs for _, theirs, *_ in PAIRS])
def test_count_and_order(shared: Path, ours: str, theirs: str, name: str, text: str, key: str | None) -> None:
    expected = reference(shared, theirs)
    rows, found = expected["classes"], vocabularies.load(ours)
    assert len(found.vocabulary) == expected["num_classes"]
    assert found.vocabulary.names == tuple(row[name] for row in rows)
    assert found.vocabulary.prompts == tuple(row[text] for row in rows)
    if key:
        assert found.ids == tuple(row[key] for row in rows)
    if "isthing" in rows[0]:
        assert found.vocabulary.is_thing == tuple(row["isthing"] for row in rows)


def test_things(shared: Path) -> None:
    assert list(vocabularies.load("cityscapes_19:things").vocabulary.names) == reference(shared, "cityscapes_19")["things"]
    assert len(vocabularies.load("ade20k_150:things").vocabulary) == 100


def test_classes_beside_the_objects_of_voc(shared: Path) -> None:
    found = vocabularies.load("voc_20b")
    assert list(found.vocabulary.names) == reference(shared, "voc_21")["pas20b_text_vocabulary"]
    assert found.ids[:21] == (*range(1, 21), 0) and set(found.ids[21:]) == {None}


def test_segmentation_in_the_wild(shared: Path) -> None:
    rows = reference(shared, "seginw")["datasets"]
    assert tuple(row["dataset"] for row in rows) == NAMES
    for row in rows:
        found = vocabularies.load(f"seginw:{row['dataset']}")
        assert list(found.vocabulary.names) == row["classes"] and all(found.vocabulary.is_thing)
        assert found.ids == tuple(range(row["num_classes"]))


def test_answers(shared: Path) -> None:
    assert list(vocabularies.answers()) == reference(shared, "vqa_answers_3129")["classes"]
    assert len(vocabularies.answers()) == 3129 and vocabularies.answers()[125] is None


def test_names_are_cleaned_as_published(shared: Path) -> None:
    rows = reference(shared, "coco_panoptic_133")["classes"]
    assert [clean(row["name"]) for row in rows] == [row["prompt_name"] for row in rows]


def test_every_list_is_known_by_name() -> None:
    assert len(vocabularies.known()) == 14 + 25
    for name in vocabularies.known():
        found = vocabularies.load(name)
        assert len(found.ids) == len(found.vocabulary) > 0


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("coco_13", "unknown class list 'coco_13'; did you mean 'coco_133'"),
        ("seginw", "unknown class list 'seginw'; did you mean 'seginw:"),
        ("seginw:Elephant", "did you mean 'seginw:Elephants'"),
        ("voc_20:things", "unknown class list 'voc_20:things'"),
        ("../vocabularies/voc_20", "unknown class list"),
        ("vqa_answers", "unknown class list"),
        ("zzz", "known: ade20k_150, ade20k_847"),
    ],
)
def test_unknown_lists(name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        vocabularies.load(name)


def test_texts_may_repeat_but_names_may_not() -> None:
    full = vocabularies.load("ade20k_847").vocabulary
    assert len(set(full.names)) == 847 and len(set(full.prompts)) == 837
    assert Vocabulary(("a", "b"), (True, True)).prompts == ("a", "b")
    with pytest.raises(ValueError, match="needs as many texts or none"):
        Vocabulary(("a", "b"), (True, True), ("a",))
