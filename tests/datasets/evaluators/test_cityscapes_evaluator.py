"""Cityscapes' scores beside those of cityscapesScripts, on random scenes with groups, small objects and unlabelled ground."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.evaluators.cityscapes import CityscapesInstanceEvaluator, InstanceIouEvaluator
from datasets.prepare.streets import prepare_cityscapes
from datasets.readers.classes import numbers
from datasets.readers.coco import CocoSpec
from xdecoder.config import parse
from xdecoder.language import vocabularies
from xdecoder.types import InstanceResult, Sample, SegmentationResult, Segments

SIZE = (120, 160)
CLASSES = vocabularies.load("cityscapes_19")
THINGS = vocabularies.load("cityscapes_19:things")
OTHERS = (
    0,
    1,
    3,
    4,
    7,
    8,
    11,
    21,
    23,
)  # unlabelled, ego vehicle, out of roi, static; road, sidewalk, building, vegetation, sky
LOOSE = (29, 29000, 29001, 30002)  # caravans and trailers, which do not count: as a class, and one by one
SPEC = parse(
    CocoSpec,
    {
        "name": "streets",
        "reader": "coco",
        "images": "i",
        "instances": "j",
        "vocabulary": "cityscapes_19:things",
        "label_ids": True,
    },
)


def _box(rng: np.random.Generator, low: int = 4, high: int = 50) -> tuple[slice, slice]:
    height, width = rng.integers(low, high, 2)
    y, x = (int(rng.integers(0, side - 3)) for side in SIZE)
    return slice(y, y + height), slice(x, x + width)


def _scene(rng: np.random.Generator) -> np.ndarray:
    """A picture of instance ids: grounds, then groups and loose classes, then objects, some of them small."""
    ids = np.full(SIZE, rng.choice(OTHERS), dtype=np.int32)
    for _ in range(6):
        ids[_box(rng, 20, 90)] = rng.choice(OTHERS)
    for _ in range(3):
        ids[_box(rng)] = rng.choice([*LOOSE, *(each for each in THINGS.ids if isinstance(each, int))])
    for number in range(rng.integers(3, 9)):
        ids[_box(rng, 5, 14 if number % 3 == 0 else 50)] = int(rng.choice([24, 26, 26, 33])) * 1000 + number
    return ids


def _found(rng: np.random.Generator, ids: np.ndarray) -> tuple[np.ndarray, list[int], list[float]]:
    """Objects near the true ones, twice or of other classes at times, and some anywhere."""
    masks, classes, scores = [], [], []
    for value in np.unique(ids[ids >= 1000]).tolist():
        for _ in range(rng.integers(0, 3)):
            shift = rng.integers(-4, 5, 2)
            masks.append(np.roll(ids == value, shift, axis=(0, 1)))
            classes.append(value // 1000 if value // 1000 in THINGS.ids and rng.random() < 0.9 else 26)
    for _ in range(4):
        mask = np.zeros(SIZE, dtype=bool)
        mask[_box(rng)] = True
        masks.append(mask)
        classes.append(int(rng.choice([24, 26, 33])))
    scores = [round(float(score), 1) for score in rng.random(len(masks))]  # many are equal
    return np.array(masks), classes, scores


@pytest.fixture(autouse=True)
def _words_that_numpy_forgot(monkeypatch: pytest.MonkeyPatch) -> None:
    """cityscapesScripts was written for NumPy 1."""
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)


@pytest.fixture
def scenes(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, dict[str, Any], dict[str, np.ndarray]]:
    rng = np.random.default_rng(request.param)
    home = tmp_path / "cityscapes/gtFine/val/ulm"
    home.mkdir(parents=True)
    found, truth = {}, {}
    for number in range(4):
        stem = f"ulm_{number:06}_000019"
        ids = _scene(rng)
        Image.fromarray(ids.astype(np.uint16)).save(home / f"{stem}_gtFine_instanceIds.png")
        Image.fromarray(np.where(ids >= 1000, ids // 1000, ids).astype(np.uint8)).save(home / f"{stem}_gtFine_labelIds.png")
        found[stem], truth[stem] = _found(rng, ids), ids
    prepare_cityscapes(tmp_path)
    return tmp_path, found, truth


def _official_ap(root: Path, found: dict[str, Any]) -> Any:
    tool = pytest.importorskip("cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling", reason="a dev dependency")
    predictions, truths = [], []
    for stem, (masks, classes, scores) in found.items():
        lines = []
        for number, (mask, category, score) in enumerate(zip(masks, classes, scores, strict=True)):
            Image.fromarray(mask.astype(np.uint8) * 255).save(root / f"{stem}_{number}.png")
            lines.append(f"{stem}_{number}.png {category} {score}")
        (root / f"{stem}.txt").write_text("\n".join(lines))
        predictions.append(str(root / f"{stem}.txt"))
        truths.append(str(root / f"cityscapes/gtFine/val/ulm/{stem}_gtFine_instanceIds.png"))
    tool.args.quiet, tool.args.JSONOutput, tool.args.gtInstancesFile = True, False, str(root / "gt.json")
    tool.args.predictionPath = str(root)
    tool.setInstanceLabels(tool.args)
    instances = tool.getGtInstances(truths, tool.args)
    matches = tool.matchGtWithPreds(predictions, truths, instances, tool.args)
    return tool.computeAverages(tool.evaluateMatches(matches, tool.args), tool.args)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scenes", range(8), indirect=True)
def test_average_precision_is_the_official_one(scenes: Any) -> None:
    root, found, _ = scenes
    official = _official_ap(root, found)
    known = numbers(SPEC, len(THINGS.vocabulary))
    annotations = root / "cityscapes/gtFine/cityscapes_instances_val.json"
    evaluator = CityscapesInstanceEvaluator(THINGS.vocabulary, annotations, known)
    for stem, (masks, classes, scores) in found.items():
        labels = torch.tensor([known[category] for category in classes])
        result = InstanceResult(torch.from_numpy(masks), labels, torch.tensor(scores, dtype=torch.float64))
        evaluator.update(result, Sample(stem, torch.zeros(3, 8, 8), SIZE))
    ours = evaluator.compute()
    assert ours["AP"] == pytest.approx(100 * official["allAp"], abs=1e-9)
    assert ours["AP50"] == pytest.approx(100 * official["allAp50%"], abs=1e-9)
    for name, row in evaluator.per_class().items():
        assert row["AP"] == pytest.approx(100 * official["classes"][name]["ap"], abs=1e-9), name
    occurring = {name for name, row in official["classes"].items() if row["ap"] == row["ap"]}
    assert set(evaluator.per_class()) == occurring and 0 < ours["AP"] < 99


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scenes", range(100, 104), indirect=True)
def test_iiou_is_the_official_one(scenes: Any) -> None:
    tool = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling", reason="a dev dependency")
    root, _, truth = scenes
    rng, ids = np.random.default_rng(5), [each for each in CLASSES.ids if isinstance(each, int)]
    label_of = {number: label for label, number in enumerate(ids)}
    evaluator = InstanceIouEvaluator(CLASSES.vocabulary)
    tool.args.quiet, tool.args.JSONOutput, tool.args.evalPixelAccuracy = True, False, False
    tool.CSUPPORT = False
    predictions, truths = [], []
    for stem, values in truth.items():
        classes = np.where(values >= 1000, values // 1000, values)
        predicted = np.where(rng.random(SIZE) < 0.7, classes, rng.choice(ids, SIZE))
        predicted[~np.isin(predicted, ids)] = 26
        home = root / "cityscapes/gtFine/val/ulm"
        Image.fromarray(predicted.astype(np.uint8)).save(root / f"{stem}_predicted.png")
        predictions.append(str(root / f"{stem}_predicted.png"))
        truths.append(str(home / f"{stem}_gtFine_labelIds.png"))
        each = [value for value in np.unique(values).tolist() if value >= 1000 and value // 1000 in label_of]
        groups = [value for value in np.unique(values).tolist() if value < 1000 and value in label_of]
        kinds = [label_of[value // 1000] for value in each] + [label_of[value] for value in groups]
        crowd = [False] * len(each) + [CLASSES.vocabulary.is_thing[label_of[value]] for value in groups]
        segments = Segments(
            torch.from_numpy(np.array([values == value for value in each + groups])), torch.tensor(kinds), torch.tensor(crowd)
        )
        # A caravan of its own is no class that counts, but the pixel score knows it as unlabelled.
        semantic = torch.from_numpy(np.vectorize(label_of.get)(predicted))
        evaluator.update(SegmentationResult(semantic, None, None), Sample(stem, torch.zeros(3, 8, 8), SIZE, segments))
    official = tool.evaluateImgLists(predictions, truths, tool.args)
    assert evaluator.compute()["iIoU"] == pytest.approx(100 * official["averageScoreInstClasses"], abs=1e-9)
    for name, row in evaluator.per_class().items():
        assert row["iIoU"] == pytest.approx(100 * official["classInstScores"][name], abs=1e-9), name


@pytest.mark.parametrize("scenes", [0], indirect=True)
def test_refusals(scenes: Any) -> None:
    root, found, _ = scenes
    annotations = root / "cityscapes/gtFine/cityscapes_instances_val.json"
    known = numbers(SPEC, len(THINGS.vocabulary))
    evaluator = CityscapesInstanceEvaluator(THINGS.vocabulary, annotations, known)
    stem, (masks, _, _) = next(iter(found.items()))
    nan = InstanceResult(torch.from_numpy(masks[:1]), torch.tensor([0]), torch.tensor([float("nan")]))
    with pytest.raises(ValueError, match=rf"picture {stem}: an instance's score is not finite"):
        evaluator.update(nan, Sample(stem, torch.zeros(3, 8, 8), SIZE))
    with pytest.raises(ValueError, match="holds no image with id 'berlin'"):
        evaluator.update(nan, Sample("berlin", torch.zeros(3, 8, 8), SIZE))
    content = json.loads(annotations.read_text())
    del content["images"][0]["unlabelled"]
    annotations.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="does not say what is unlabelled"):
        CityscapesInstanceEvaluator(THINGS.vocabulary, annotations, known)
