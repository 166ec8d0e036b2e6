"""Predictions written in the official formats, as others read them, and read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle
from safetensors.torch import save_file

from datasets.readers.coco import CocoSpec
from datasets.submissions import SavedAnswers, Submission, class_numbers, image_name
from xdecoder.types import (
    AnswerResult,
    Batch,
    CaptionResult,
    ClassificationResult,
    InstanceResult,
    PanopticResult,
    PanopticSegment,
    Phrases,
    Question,
    ReferringResult,
    RetrievalResult,
    Sample,
    SegmentationResult,
    Vocabulary,
)

VOCABULARY = Vocabulary(("cat", "grass"), (True, False))
NUMBERS = (17, 193)
SPEC = CocoSpec(
    name="fields",
    images="images",
    panoptic="panoptic.json",
    panoptic_images="panoptic",
    evaluators=("panoptic", "instance", "semantic"),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    categories = [{"id": number, "name": name} for number, name in zip(NUMBERS, VOCABULARY.names, strict=True)][::-1]
    (tmp_path / "panoptic.json").write_text(json.dumps({"categories": categories, "annotations": []}))
    return tmp_path


def sample(id: int | str) -> Sample:
    masks = torch.zeros(2, 4, 6, dtype=torch.bool)
    questions = (Question(f"{id}-1", "how many?", ("2",)), Question(f"{id}-2", "what?", ("dog",)))
    return Sample(
        id, torch.zeros(3, 4, 6, dtype=torch.uint8), (4, 6), phrases=Phrases(("a cat", "it"), masks), questions=questions
    )


def segmented(seed: int) -> SegmentationResult:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.zeros(4, 6, dtype=torch.int32)
    ids[1:, :3], ids[:, 4:] = 1, 70_000
    masks = torch.rand(3, 4, 6, generator=generator) < 0.5
    masks[2] = False
    return SegmentationResult(
        torch.randint(0, 2, (4, 6), generator=generator),
        InstanceResult(masks, torch.tensor([0, 0, 0]), torch.rand(3, generator=generator)),
        PanopticResult(ids, (PanopticSegment(70_000, 1, False, 0.25), PanopticSegment(1, 0, True, 0.5))),
    )


def test_masks_are_what_official_tools_expect(root: Path) -> None:
    submission = Submission(root / "saved" / "fields", SPEC, root, VOCABULARY)
    result = segmented(0)
    submission.update("segmentation", result, sample(42))
    submission.write()
    folder = root / "saved" / "fields"
    colours = np.array(Image.open(folder / "panoptic" / "000000000042.png")).astype(int)
    assert (colours @ [1, 256, 65536] == result.panoptic.ids.numpy()).all()
    (row,) = json.loads((folder / "panoptic.json").read_text())["annotations"]
    assert (row["image_id"], row["file_name"]) == (42, "000000000042.png")
    assert [(s["id"], s["category_id"], s["isthing"]) for s in row["segments_info"]] == [(70_000, 193, 0), (1, 17, 1)]
    values = np.array(Image.open(folder / "semantic" / "000000000042.png"))
    assert values.dtype == np.uint8 and (values == np.array(NUMBERS)[result.semantic.numpy()]).all()
    rows = json.loads((folder / "instances.json").read_text())
    assert [row["category_id"] for row in rows] == [17] * 3 and rows[0]["segmentation"]["size"] == [4, 6]
    assert (rle.area(rows[0]["segmentation"])) == int(result.instances.masks[0].sum())


def test_everything_comes_back_as_it_was(root: Path) -> None:
    tasks = ("segmentation", "referring", "captioning", "retrieval", "classification", "vqa")
    samples = [sample("b/2"), sample(7)]
    results = {
        "segmentation": [segmented(1), segmented(2)],
        "referring": [
            ReferringResult(segmented(i).instances.masks[:2], torch.tensor([0.5, 0.25]), torch.tensor([True, False]))
            for i in (3, 4)
        ],
        "captioning": [CaptionResult("a “cat”\n"), CaptionResult("")],
        "retrieval": [RetrievalResult(torch.rand(2, 5), torch.rand(n, 5)) for n in (1, 3)],
        "classification": [ClassificationResult(torch.tensor([1, 0]), torch.tensor([0.5, 0.25])) for _ in samples],
        "vqa": [AnswerResult(("2", "dog")), AnswerResult(("", "no"))],
    }
    first, second = (Submission(root / "saved", SPEC, root, VOCABULARY) for _ in range(2))
    for keeper, place in ((first, 0), (second, 1)):
        for task in tasks:
            keeper.update(task, results[task][place], samples[place])
    first.merge([second.state()])
    first.write()
    found = SavedAnswers(root / "saved", SPEC, root, VOCABULARY)(tasks, Batch(tuple(samples), VOCABULARY, "fields"))
    for task in tasks:
        for one, other in zip(found[task], results[task], strict=True):
            same(one, other)


def same(one: object, other: object) -> None:
    if isinstance(other, torch.Tensor):
        assert torch.equal(one.to(other.dtype), other)
    elif hasattr(other, "__dataclass_fields__"):
        for name in other.__dataclass_fields__:
            same(getattr(one, name), getattr(other, name))
    else:
        assert one == other


def test_segmentation_in_the_wild_has_its_files_side_by_side(root: Path) -> None:
    spec = CocoSpec(name="seginw_Cows_val", images="images", instances="panoptic.json", evaluators=("instance",))
    submission = Submission(root / "saved" / spec.name, spec, root, VOCABULARY)
    submission.update("segmentation", segmented(0), sample(1))
    submission.write()
    assert [path.name for path in (root / "saved").iterdir()] == ["seginw_Cows_val.json"]
    found = SavedAnswers(root / "saved" / spec.name, spec, root, VOCABULARY)._segmentation(sample(1))
    assert found.panoptic is None and len(found.instances.labels) == 3
    assert len(SavedAnswers(root / "saved" / spec.name, spec, root, VOCABULARY)._segmentation(sample(2)).instances.labels) == 0


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ("segmentation", r"semantic/000000000001\.png: no such prediction"),
        ("captioning", r"captions\.json: no such file"),
        ("retrieval", r"retrieval\.safetensors: no such file"),
        ("vqa", r"answers\.json: no such file"),
    ],
)
def test_what_is_missing_is_named(root: Path, task: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        SavedAnswers(root / "saved", SPEC, root, VOCABULARY)([task], Batch((sample(1),), VOCABULARY, "fields"))


def test_categories_and_pictures_of_others_are_refused(root: Path) -> None:
    saved = root / "saved"
    (saved / "semantic").mkdir(parents=True)
    Image.fromarray(np.full((4, 6), 3, np.uint8)).save(saved / "semantic" / "000000000001.png")
    (saved / "instances.json").write_text(json.dumps([{"image_id": 1, "category_id": 5, "score": 1, "segmentation": []}]))
    (saved / "captions.json").write_text(json.dumps([{"image_id": 2, "caption": "x"}]))
    answers = SavedAnswers(saved, SPEC, root, VOCABULARY)
    with pytest.raises(ValueError, match=r"000000000001\.png: holds value 3, which is the number of no class"):
        answers._semantic(sample(1))
    with pytest.raises(ValueError, match=r"instances\.json: category 5 is none of the data set 'fields'"):
        answers._instances(sample(1))
    with pytest.raises(ValueError, match=r"captions\.json: says nothing of picture 1"):
        answers._caption("captions.json", sample(1))


RLE = {"size": [4, 6], "counts": [24]}
INSTANCE = {"image_id": 1, "category_id": 17, "score": 0.5, "segmentation": RLE}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([INSTANCE, {**INSTANCE, "image_id": 7}], "row 2 is of image_id 7, which the data set does not have$"),
        ([{**INSTANCE, "image_id": "1"}], "row 1 is of image_id '1', which the data set does not have, but 1: is it a number"),
        ([{**INSTANCE, "image_id": True}], "row 1 has the image_id True; expected a number or a text"),
        ([{**INSTANCE, "image_id": [1]}], r"row 1 has the image_id \[1\]"),
        ([{**INSTANCE, "score": float("nan")}], "row 1 has the score nan; expected a finite number"),
        ([{**INSTANCE, "score": "0.5"}], "row 1 has the score '0.5'; expected a finite number"),
        ([{key: INSTANCE[key] for key in ("image_id", "category_id", "segmentation")}], "row 1 has no 'score'"),
        ([{**INSTANCE, "segmentation": "x" * 10**6}], "row 1 has the segmentation 'xxx"),
        ([{**INSTANCE, "category_id": None}], "row 1 has the category_id None"),
        ([5], "row 1 is 5; expected an object with image_id, category_id, segmentation, score"),
        ({"instances": []}, "expected a list of predictions"),
        ("text", "expected a list of predictions"),
    ],
)
def test_rows_that_cannot_be_scored_are_named(root: Path, content: object, message: str) -> None:
    (root / "instances.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"instances\.json: {message}") as error:
        SavedAnswers(root, SPEC, root, VOCABULARY, {1, 2})._instances(sample(1))
    assert len(str(error.value)) < 500


ROUNDS = {"image_id": 1, "ious": [[0.5, 0.75]], "seconds": 1.0, "passes": 2}
MASK = {"image_id": 1, "index": 0, "score": 1.0, "segmentation": RLE}


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        (
            "vqa",
            [{"question_id": "1-1", "answer": "2"}, {"question_id": "9-9", "answer": "2"}],
            "row 2 is of question_id '9-9'",
        ),
        ("vqa", [{"question_id": "1-1", "answer": None}], "row 1 has the answer None; expected a text"),
        ("interactive", [{**ROUNDS, "ious": [[85.0]]}], "row 1 has the ious .* from 0 to 1, all of one length"),
        ("interactive", [{**ROUNDS, "ious": [[0.5], [0.5, 0.5]]}], "row 1 has the ious"),
        ("interactive", [{**ROUNDS, "ious": [[]]}], "row 1 has the ious"),
        ("interactive", [{**ROUNDS, "ious": [[float("nan")]]}], "row 1 has the ious"),
        ("interactive", [{**ROUNDS, "passes": -1}], "row 1 has the passes -1"),
        ("referring", [MASK, {**MASK, "index": 7}], "picture 1 has masks with the indices 0, 7; expected one for each of 2"),
        ("referring", [{**MASK, "index": -1}], "row 1 has the index -1"),
        ("referring", [MASK], "picture 1 has masks with the indices 0; expected"),
        ("classification", [{"image_id": 1, "labels": [0, 0], "scores": [1, 1]}], "picture 1 has a label more than once"),
        ("classification", [{"image_id": 1, "labels": [0], "scores": [1, 1]}], "picture 1 has 1 labels and 2 scores"),
    ],
)
def test_rows_of_every_task_are_checked(root: Path, task: str, content: list[dict[str, object]], message: str) -> None:
    name = {"vqa": "answers", "classification": "classes"}.get(task, task)
    (root / f"{name}.json").write_text(json.dumps(content))
    answers = SavedAnswers(root, SPEC, root, VOCABULARY, {1, 2}, {"1-1", "1-2", "2-1", "2-2"})
    with pytest.raises(ValueError, match=rf"{name}\.json: {message}"):
        answers([task], Batch((sample(1),), VOCABULARY, "fields"))


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ({"9/image": torch.ones(1, 2)}, "vector '9/image' is of no picture that the data set has"),
        ({"1/image": torch.ones(2)}, r"vector '1/image' is \(2,\) float32; expected"),
        ({"1/image": torch.ones(1, 2, dtype=torch.int64)}, r"vector '1/image' is \(1, 2\) int64; expected"),
        ({"1/other": torch.ones(1, 2)}, "vector '1/other' is"),
        ({"1/image": torch.ones(1, 2)}, "has no vectors of picture 1"),
    ],
)
def test_vectors_are_checked(root: Path, vectors: dict[str, torch.Tensor], message: str) -> None:
    save_file(vectors, root / "retrieval.safetensors")
    with pytest.raises(ValueError, match=rf"retrieval\.safetensors: {message}"):
        SavedAnswers(root, SPEC, root, VOCABULARY, {1, 2})(["retrieval"], Batch((sample(1),), VOCABULARY, "fields"))


def test_the_surest_class_counts_wherever_it_stands(root: Path) -> None:
    (root / "classes.json").write_text(json.dumps([{"image_id": 1, "labels": [0, 1], "scores": [0.1, 0.9]}]))
    (found,) = SavedAnswers(root, SPEC, root, VOCABULARY)(["classification"], Batch((sample(1),), VOCABULARY, "f"))[
        "classification"
    ]
    assert found.labels.tolist() == [1, 0]


@pytest.mark.parametrize("as_text", [False, True])
def test_category_numbers_are_those_of_the_classes(tmp_path: Path, as_text: bool) -> None:
    """A root category, as Roboflow adds it, and what is called background are no classes."""
    names = [("shapes", "none"), ("background", "shapes"), ("box", "shapes"), ("disc", "shapes")]
    rows = [{"id": str(i) if as_text else i, "name": name, "supercategory": above} for i, (name, above) in enumerate(names)]
    annotation = {"id": 1, "image_id": 1, "category_id": rows[2]["id"], "segmentation": [[0, 0, 5, 0, 5, 5]]}
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [annotation], "categories": rows}
    (tmp_path / "instances.json").write_text(json.dumps(content))
    spec = CocoSpec(name="x", images="images", instances="instances.json")
    assert class_numbers(spec, tmp_path, VOCABULARY) == {0: 2, 1: 3}


@pytest.mark.parametrize(
    ("task", "file", "row"),
    [
        ("captioning", "captions", {"image_id": 1, "caption": "a cat"}),
        ("classification", "classes", {"image_id": 1, "labels": [0], "scores": [1.0]}),
        ("vqa", "answers", {"question_id": "1-1", "answer": "2"}),
        ("referring", "referring", {"image_id": 1, "index": 0, "score": 1.0, "segmentation": RLE}),
    ],
)
def test_nothing_is_predicted_twice(root: Path, task: str, file: str, row: dict[str, object]) -> None:
    (root / f"{file}.json").write_text(json.dumps([row, row]))
    with pytest.raises(ValueError, match=rf"{file}\.json: row 2 is the second of .*; there can be one"):
        SavedAnswers(root, SPEC, root, VOCABULARY)([task], Batch((sample(1),), VOCABULARY, "fields"))


def test_pictures_of_another_kind(root: Path) -> None:
    (root / "semantic").mkdir()
    Image.new("RGB", (6, 4)).save(root / "semantic/000000000001.png")
    with pytest.raises(ValueError, match=r"000000000001\.png: has shape \(4, 6, 3\); expected one number a pixel, \(4, 6\)"):
        SavedAnswers(root, SPEC, root, VOCABULARY)._semantic(sample(1))
    rows = [{"image_id": 1, "file_name": "../semantic/grey.png", "segments_info": [{"id": 1, "category_id": 17}]}]
    Image.new("L", (6, 4)).save(root / "semantic/grey.png")
    (root / "panoptic").mkdir()
    (root / "panoptic.json").write_text(
        json.dumps({"annotations": rows, "categories": [{"id": i, "name": str(i), "isthing": 1} for i in NUMBERS]})
    )
    with pytest.raises(ValueError, match=r"panoptic\.json: '\.\./semantic/grey\.png' is a L image; a panoptic PNG is RGB"):
        SavedAnswers(root, SPEC, root, VOCABULARY)._panoptic(sample(1))


def test_file_names_are_what_a_file_can_be_called() -> None:
    assert image_name(7) == "000000000007.png" and image_name("ulm/a (1)") == "ulm_a (1).png"
    names = [image_name(id) for id in ("a\0b", "a\nb", "a\ud800b", "x" * 300, "a:b", "a_b")]
    assert len(set(names)) == len(names) and all(len(name) < 200 and name.isprintable() for name in names)
