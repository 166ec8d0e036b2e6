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
from datasets.evaluators.instance import NAMES
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
            scores.append(round(float(rng.random()), 1))         # with ties
    stacks = [torch.from_numpy(np.stack(many) if many else np.zeros((0, *SIZE), bool)) for many in (masks, found)]
    segments = Segments(stacks[0], torch.tensor(labels, dtype=torch.int64), torch.tensor(crowd, dtype=torch.bool))
    result = InstanceResult(stacks[1], torch.tensor(guess, dtype=torch.int64), torch.tensor(scores, dtype=torch.float64))
    return result, Sample(id, torch.zeros(3, 2, 2, dtype=torch.uint8), SIZE, segments)


def direct(cases: list[tuple[InstanceResult, Sample]]) -> list[float]:
    """The first six numbers of COCOeval over things, from files' worth of plain JSON."""
    rows, found = [], []
    for result, sample in cases:
        truth = sample.segments
        for mask, label, crowd in zip(truth.masks.numpy(), truth.labels.tolist(), truth.crowd.tolist(), strict=True):
            code = rle.encode(np.asfortranarray(mask, np.uint8))
            rows.append(
                {"id": len(rows) + 1, "image_id": sample.id, "category_id": label, "iscrowd": int(crowd), "segmentation": code,
                 "area": int(mask.sum()), "bbox": rle.toBbox(code).tolist()}
            )  # fmt: skip
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
    return [100 * float(value) for value in scorer.stats[:6]]


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
    with pytest.raises(ValueError, match="'images' is missing"):
        InstanceEvaluator(VOCABULARY, path)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")    # pycocotools' decode under NumPy 2
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
    expected = json.loads((folder / "expected.json").read_text())["segm"][:6]
    assert [value / 100 for value in evaluator.compute().values()] == pytest.approx(expected, abs=1e-12)
