"""Mask AP against pycocotools used directly, and against published figures."""

from __future__ import annotations

import contextlib
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from datasets.evaluators import InstanceEvaluator
from datasets.evaluators.average_precision import NAMES, average_precision, match
from datasets.evaluators.instance import encode
from xdecoder.types import InstanceResult, Sample, SegmentationResult, Segments, Vocabulary

PAIRS = Path(__file__).resolve().parents[4] / "shared" / "data" / "eval_pairs"
VOCABULARY = Vocabulary(("cat", "grass", "dog"), (True, False, True))
SIZE = (150, 160)


def random_case(rng: np.random.Generator, id: int) -> tuple[InstanceResult, Sample]:
    """Rectangles from tiny to large, some crowds and some stuff; predictions are shifted, confused and doubled."""
    masks, labels, crowd, found, guess, scores = [], [], [], [], [], []
    for _ in range(int(rng.integers(0, 6))):
        height, width = (int(rng.integers(4, 140)) for _ in range(2))
        y, x = int(rng.integers(0, SIZE[0] - height)), int(rng.integers(0, SIZE[1] - width))
        mask = np.zeros(SIZE, bool)
        mask[y : y + height, x : x + width] = True
        masks.append(mask)
        labels.append(int(rng.integers(0, 3)))
        crowd.append(bool(rng.random() < 0.2))
        for _ in range(int(rng.integers(0, 3))):
            found.append(np.roll(mask, tuple(rng.integers(-3, 4, 2).tolist()), (0, 1)))
            guess.append(labels[-1] if rng.random() < 0.8 else int(rng.integers(0, 3)))
            scores.append(round(float(rng.random()), 1))  # with ties
    stacks = [torch.from_numpy(np.stack(many) if many else np.zeros((0, *SIZE), bool)) for many in (masks, found)]
    segments = Segments(stacks[0], torch.tensor(labels, dtype=torch.int64), torch.tensor(crowd, dtype=torch.bool))
    result = InstanceResult(stacks[1], torch.tensor(guess, dtype=torch.int64), torch.tensor(scores, dtype=torch.float64))
    return result, Sample(id, torch.zeros(3, 2, 2, dtype=torch.uint8), SIZE, segments)


def direct(cases: list[tuple[InstanceResult, Sample]]) -> list[float]:
    """The twelve numbers of COCOeval over things, from files' worth of plain JSON."""
    rows, found = [], []
    for result, sample in cases:
        truth = sample.segments
        for mask, label, crowd in zip(truth.masks.numpy(), truth.labels.tolist(), truth.crowd.tolist(), strict=True):
            code = rle.encode(np.asfortranarray(mask, np.uint8))
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": sample.id,
                    "category_id": label,
                    "iscrowd": int(crowd),
                    "segmentation": code,
                    "area": int(mask.sum()),
                    "bbox": rle.toBbox(code).tolist(),
                }
            )
        for mask, label, score in zip(result.masks.numpy(), result.labels.tolist(), result.scores.tolist(), strict=True):
            code = rle.encode(np.asfortranarray(mask, np.uint8))
            found.append({"image_id": sample.id, "category_id": label, "segmentation": code, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": sample.id, "height": SIZE[0], "width": SIZE[1]} for _, sample in cases],
            "annotations": [row for row in rows if row["category_id"] != 1],
            "categories": [{"id": 0}, {"id": 2}],
        }
        coco.createIndex()
        scorer = COCOeval(coco, coco.loadRes([row for row in found if row["category_id"] != 1]), "segm")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return [100 * float(value) for value in scorer.stats]


def test_equals_pycocotools_and_merges(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    cases = [random_case(rng, id) for id in range(1, 41)]
    whole, first, second = (InstanceEvaluator(VOCABULARY) for _ in range(3))
    for i, (result, sample) in enumerate(cases):
        whole.update(SegmentationResult(None, result, None), sample)
        (second if i < 11 else first).update(result, sample)
    scores = whole.compute()
    assert capsys.readouterr().out == ""
    assert list(scores) == list(NAMES)
    assert list(scores.values()) == pytest.approx(direct(cases), abs=1e-10)
    assert 5 < scores["AP"] < 95 and all(0 < value < 100 for value in scores.values())
    first.merge([second.state()])
    assert first.compute() == scores


def hostile_case(rng: np.random.Generator, id: int) -> tuple[InstanceResult, Sample]:
    """No truth, nothing found, only crowds, single pixels, empty masks, many equal masks and scores, more than 100 found."""
    kind, masks, found = id % 7, [], []
    for _ in range(0 if kind == 0 else 6):
        mask = np.zeros(SIZE, bool)
        size = 1 if kind == 3 else int(rng.integers(0, 110))
        y, x = (int(rng.integers(0, limit - size)) for limit in SIZE)
        mask[y : y + size, x : x + size] = True
        masks.append(mask)
    sources = masks or [np.ones(SIZE, bool)]
    for i in range({1: 0, 5: 130}.get(kind, 12)):
        shift = tuple(rng.integers(-2, 3, 2).tolist()) if kind != 4 else (0, 0)
        found.append(np.roll(sources[i % len(sources)], shift, (0, 1)))
    stacks = [torch.from_numpy(np.stack(many) if many else np.zeros((0, *SIZE), bool)) for many in (masks, found)]
    one_class = kind in (4, 5)
    classes = 1 if one_class else 3
    labels, guess = (torch.from_numpy(rng.integers(0, classes, len(many))) for many in (masks, found))
    crowd = torch.from_numpy(rng.random(len(masks)) < (1.1 if kind == 2 else 0.25))
    scores = torch.from_numpy(rng.integers(0, 3, len(found)) / 3)
    sample = Sample(id, torch.zeros(3, 2, 2, dtype=torch.uint8), SIZE, Segments(stacks[0], labels, crowd))
    return InstanceResult(stacks[1], guess, scores), sample


def test_equals_pycocotools_on_hostile_pictures() -> None:
    rng = np.random.default_rng(5)
    cases = [hostile_case(rng, id) for id in range(42)]
    for chosen in (cases, cases[:3], cases[2:3] + cases[4:6], cases[3::7]):
        evaluator = InstanceEvaluator(VOCABULARY)
        for one in (*chosen, chosen[0]):  # the first comes twice
            evaluator.update(*one)
        expected = [value if value >= 0 else math.nan for value in direct(chosen)]
        assert list(evaluator.compute().values()) == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert set(evaluator.per_image()) <= {sample.id for _, sample in chosen}


def test_an_annotation_needs_neither_area_nor_crowd_but_an_id_of_its_own(tmp_path: Path) -> None:
    row = {"id": 1, "image_id": 5, "category_id": 7, "segmentation": [[0, 0, 40, 0, 40, 40, 0, 40]]}
    content = {"images": [{"id": 5}], "annotations": [row], "categories": [{"id": 7, "name": "cat"}]}
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    mask = torch.zeros(1, *SIZE, dtype=torch.bool)
    mask[0, :40, :40] = True
    result = InstanceResult(mask, torch.tensor([0]), torch.tensor([0.5]))
    evaluator = InstanceEvaluator(VOCABULARY, path)
    evaluator.update(result, Sample(5, torch.zeros(3, 2, 2, dtype=torch.uint8), SIZE))
    scores = evaluator.compute()
    assert scores["AP"] == pytest.approx(100) and scores["APm"] == pytest.approx(100) and math.isnan(scores["APs"])
    assert evaluator.per_class() == {"cat": {"AP": pytest.approx(100)}}
    path.write_text(json.dumps(content | {"annotations": [row, row]}))
    with pytest.raises(ValueError, match=r"instances\.json: annotations have the id 1 more than once"):
        InstanceEvaluator(VOCABULARY, path)


@pytest.mark.skipif(not PAIRS.is_dir(), reason="the real-data kit ../shared is absent")
def test_published_figures_of_boxes() -> None:
    folder = PAIRS / "coco_ap_fake100"
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    groups: dict[tuple[int, int], tuple[list, list]] = {}
    for row in truth["annotations"]:
        groups.setdefault((row["image_id"], row["category_id"]), ([], []))[0].append(row)
    for row in json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text()):
        groups.setdefault((row["image_id"], row["category_id"]), ([], []))[1].append(row)
    classes: dict[int, list] = {}
    for (_, label), (true, found) in sorted(groups.items()):
        boxes, true_boxes = (np.array([row["bbox"] for row in rows], float).reshape(-1, 4) for rows in (found, true))
        crowd = [row["iscrowd"] for row in true]
        overlaps = rle.iou(boxes, true_boxes, crowd) if true and found else []
        classes.setdefault(label, []).append(
            match(
                np.array(overlaps, float).reshape(len(found), len(true)),
                np.array([row["score"] for row in found], float),
                boxes[:, 2] * boxes[:, 3],
                np.array([row["area"] for row in true], float),
                np.array(crowd, bool),
            )
        )
    scores, _ = average_precision(classes)
    expected = json.loads((folder / "expected.json").read_text())["bbox"]
    assert list(scores.values()) == pytest.approx(expected, abs=1e-12)


def test_nothing_found_is_0_and_nothing_true_is_nan() -> None:
    mask = torch.zeros(1, *SIZE, dtype=torch.bool)
    mask[0, :10, :10] = True
    empty = InstanceResult(mask[:0], torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    segments = Segments(mask, torch.tensor([2]), torch.tensor([False]))
    sample = Sample("a", torch.zeros(3, 2, 2, dtype=torch.uint8), SIZE, segments)
    evaluator = InstanceEvaluator(VOCABULARY)
    assert all(math.isnan(value) for value in evaluator.compute().values())
    evaluator.update(empty, sample)
    scores = evaluator.compute()
    assert scores["AP"] == scores["APs"] == 0 and math.isnan(scores["APm"])

    evaluator = InstanceEvaluator(VOCABULARY)
    found = InstanceResult(mask, torch.tensor([0]), torch.tensor([0.9]))
    nothing = Segments(mask[:0], torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool))
    evaluator.update(found, Sample("a", sample.image, SIZE, nothing))
    assert all(math.isnan(value) for value in evaluator.compute().values())


def test_misfits_are_refused(tmp_path: Path) -> None:
    result, sample = random_case(np.random.default_rng(3), 5)
    with pytest.raises(ValueError, match="expected"):
        InstanceEvaluator(VOCABULARY).update(result, Sample(5, sample.image, (9, 9), sample.segments))
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}))
    with pytest.raises(ValueError, match=r"instances\.json: holds no image with id 5"):
        InstanceEvaluator(VOCABULARY, path).update(result, sample)
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": [{"id": 1, "name": "cow"}]}))
    with pytest.raises(ValueError, match="'cow' is not a class"):
        InstanceEvaluator(VOCABULARY, path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="an object with a list 'annotations'"):
        InstanceEvaluator(VOCABULARY, path)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' decode under NumPy 2
@pytest.mark.skipif(not PAIRS.is_dir(), reason="the real-data kit ../shared is absent")
def test_published_figures() -> None:
    """The official fake detections on 100 COCO pictures."""
    folder = PAIRS / "coco_ap_fake100"
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    labels = {category["id"]: i for i, category in enumerate(truth["categories"])}
    names = tuple(category["name"] for category in truth["categories"])
    evaluator = InstanceEvaluator(Vocabulary(names, (True,) * len(names)), folder / "instances_val2014_100.json")
    found: dict[int, list] = {image["id"]: [] for image in truth["images"]}
    for row in json.loads((folder / "instances_val2014_fakesegm100_results.json").read_text()):
        found[row["image_id"]].append(row)
    for image in truth["images"]:
        rows, size = found[image["id"]], (image["height"], image["width"])
        masks = [rle.decode(row["segmentation"]).astype(bool) for row in rows]
        result = InstanceResult(
            torch.from_numpy(np.stack(masks) if masks else np.zeros((0, *size), bool)),
            torch.tensor([labels[row["category_id"]] for row in rows], dtype=torch.int64),
            torch.tensor([row["score"] for row in rows], dtype=torch.float64),
        )
        evaluator.update(result, Sample(image["id"], torch.zeros(3, 2, 2, dtype=torch.uint8), size))
    expected = json.loads((folder / "expected.json").read_text())["segm"]
    assert [value / 100 for value in evaluator.compute().values()] == pytest.approx(expected, abs=1e-12)


def test_masks_are_encoded_as_pycocotools_does_whatever_their_type() -> None:
    masks = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0)) > 0.5
    expected = [rle.encode(np.asfortranarray(mask.numpy().astype(np.uint8))) for mask in masks]
    for given in (masks, masks.float(), masks.to(torch.uint8), masks.transpose(1, 2).contiguous().transpose(1, 2)):
        assert [code for code, _ in encode(given)] == expected
    assert [area for _, area in encode(masks)] == masks.flatten(1).sum(1).tolist()
