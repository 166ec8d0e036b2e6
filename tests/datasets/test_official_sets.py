"""Every entry of the catalog, from its official layout on disk through reader, network and evaluators."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.catalog import CATALOG, find
from datasets.catalog.wild import NAMES
from datasets.evaluators import evaluators_for
from datasets.loader import evaluation_loader
from datasets.spec import DatasetSpec
from datasets.streams import EvaluationConfig
from tests.datasets.official import writers
from tests.tiny import tiny_model
from xdecoder.config import parse
from xdecoder.language import vocabularies
from xdecoder.model import XDecoder
from xdecoder.tasks import TasksConfig
from xdecoder.types import (
    AnswerResult,
    Batch,
    CaptionResult,
    ClassificationResult,
    InstanceResult,
    PanopticResult,
    PanopticSegment,
    ReferringResult,
    RetrievalResult,
    Sample,
    SegmentationResult,
)

pytestmark = pytest.mark.slow

WILD = {name: vocabularies.load(f"seginw:{name}").vocabulary.names for name in NAMES}
WRITERS = writers(tuple(str(key) for key in vocabularies.load("imagenet_1000").ids), WILD)
ELSEWHERE = ("shapes_", "coco_kit_", "own_", "vlp_", "coco_2017_train_panoptic_filt")  # other tests have them
SECOND_ROWS = ("train", "10shot", "refer_", "restval", "grefcoco_test", "saco")  # of a format that the network has seen
TASK_OF = {
    "panoptic": "segmentation",
    "instance": "segmentation",
    "semantic": "segmentation",
    "cityscapes_instance": "segmentation",
    "iiou": "segmentation",
    "referring": "referring",
    "grefcoco": "referring",
    "saco": "referring",
    "captioning": "captioning",
    "retrieval": "retrieval",
    "classification": "classification",
    "vqa": "vqa",
}
EXPECTED = {
    "panoptic": ("PQ", "SQ", "RQ"),
    "instance": ("AP", "AP50"),
    "semantic": ("mIoU", "pACC"),
    "cityscapes_instance": ("AP", "AP50"),
    "iiou": ("iIoU",),
    "referring": ("referring_cIoU",),
    "grefcoco": ("grefcoco_gIoU", "grefcoco_cIoU", "grefcoco_N_acc", "grefcoco_T_acc"),
    "saco": (),  # whose perfect scores are a little below 100
    "captioning": (),
    "retrieval": ("retrieval_IR@1", "retrieval_TR@1"),
    "classification": ("top1", "top5"),
    "vqa": ("vqa_accuracy",),
}
"""Scores that must be 100 for answers that are the truth."""


@pytest.fixture(autouse=True)
def small_objects_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """In Cityscapes they do not, and the images here are small."""
    monkeypatch.setattr("datasets.evaluators.cityscapes.SMALLEST", 1)


@pytest.fixture(autouse=True)
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """METEOR and SPICE take seconds to start, and have tests of their own."""
    monkeypatch.setattr("datasets.evaluators.coco_caption_tools.shutil.which", lambda program: None)


@pytest.fixture(scope="module")
def model() -> XDecoder:
    return tiny_model()


def tasks_of(spec: DatasetSpec) -> tuple[str, ...]:
    return tuple(dict.fromkeys(TASK_OF[name] for name in spec.evaluators)) or ("vqa",)  # type: ignore[arg-type]


def batch_of(spec: DatasetSpec, root: Path) -> Batch:
    entry = {"dataset": spec, "tasks": tasks_of(spec), "batch_size": 2, "transform": {"name": "stretch", "size": 32}}
    loader = evaluation_loader(parse(EvaluationConfig, entry), root)
    (batch,) = list(loader)
    return batch


def tiny(name: str) -> DatasetSpec:
    return find(name).model_copy(update={"count": None, "counts": type(find(name).counts)()})


KITS = {
    *("coco_refs", "coco_mini_train", "coco_more_train", "coco_more_val", "coco_mval_kit_train", "coco_mval_kit_val"),
    *("flickr8k_train_more", "flickr8k_dev"),
}
"""Read where they lie (tests/datasets/test_kits.py)."""


def test_every_entry_has_its_layout_here() -> None:
    marked = {name for name, spec in CATALOG.items() if spec.evaluators == ("interactive",)}  # see test_objects
    here = {name for name in CATALOG if not name.startswith(ELSEWHERE)} - KITS - marked
    assert set(WRITERS) == here


@pytest.mark.parametrize("name", WRITERS)
def test_from_disk_to_score(name: str, tmp_path: Path, model: XDecoder) -> None:
    found = WRITERS[name](tmp_path)
    spec = tiny(name)
    if not spec.measured_with.all_sentences:
        found = {key: tuple(text for text in texts if text != "a dog") for key, texts in found.items()}  # said second
    batch = batch_of(spec, tmp_path)
    assert {sample.id: said_of(sample, batch) for sample in batch.samples} == found
    truth = {task: [TRUTHS[task](sample, batch) for sample in batch.samples] for task in tasks_of(spec)}
    assert_scores(truth, batch, spec, tmp_path, perfect=True)
    if not any(word in name for word in SECOND_ROWS) and (not name.startswith("seginw") or "Trash" in name):
        assert_scores(answers(model, batch, spec), batch, spec, tmp_path, perfect=False)


def said_of(sample: Sample, batch: Batch) -> Any:
    """What the reader found of a picture, in the form in which the writers tell it."""
    if sample.segments is not None:
        assert batch.vocabulary is not None
        areas: dict[str, int] = {}
        for mask, label in zip(sample.segments.masks, sample.segments.labels.tolist(), strict=True):
            name = batch.vocabulary.names[label]
            areas[name] = areas.get(name, 0) + int(mask.sum())
        return areas
    if sample.phrases is not None:
        return sample.phrases.texts
    if sample.questions:
        return tuple((question.id, question.text, question.answers) for question in sample.questions)
    if sample.label is not None:
        assert batch.vocabulary is not None
        return batch.vocabulary.names[sample.label]
    return sample.captions


def _segmentation(sample: Sample, batch: Batch) -> SegmentationResult:
    segments = sample.segments
    assert segments is not None and batch.vocabulary is not None
    ids = torch.zeros(sample.output_size, dtype=torch.int32)
    semantic = torch.zeros(sample.output_size, dtype=torch.int64)
    rows = []
    for i, (mask, label) in enumerate(zip(segments.masks, segments.labels.tolist(), strict=True), start=1):
        ids[mask] = i
        semantic[mask] = label
        rows.append(PanopticSegment(i, label, batch.vocabulary.is_thing[label], 1.0))
    if sample.label_map is not None:
        semantic = sample.label_map.clamp(min=0)
    kept = ~segments.crowd
    instances = InstanceResult(segments.masks[kept], segments.labels[kept], torch.ones(int(kept.sum())))
    return SegmentationResult(semantic, instances, PanopticResult(ids, tuple(rows)))


def _referring(sample: Sample, batch: Batch) -> ReferringResult:
    assert sample.phrases is not None
    masks = [mask[None][: int(mask.any())] for mask in sample.phrases.masks]
    each = tuple(InstanceResult(mask, torch.zeros(len(mask), dtype=torch.int64), torch.ones(len(mask))) for mask in masks)
    return ReferringResult(sample.phrases.masks, torch.ones(len(sample.phrases.texts)), instances=each)


def _retrieval(sample: Sample, batch: Batch) -> RetrievalResult:
    vector = torch.zeros(1, 2)
    vector[0, list(batch.samples).index(sample)] = 1
    return RetrievalResult(vector, vector.expand(len(sample.captions), 2))


TRUTHS: dict[str, Any] = {
    "segmentation": _segmentation,
    "referring": _referring,
    "captioning": lambda sample, batch: CaptionResult(sample.captions[0]),
    "retrieval": _retrieval,
    "classification": lambda sample, batch: ClassificationResult(torch.tensor([sample.label]), torch.ones(1)),
    "vqa": lambda sample, batch: AnswerResult(tuple("dog" for _ in sample.questions)),
}


def answers(model: XDecoder, batch: Batch, spec: DatasetSpec) -> dict[str, list[Any]]:
    """What a network that knows nothing answers; questions are nobody's task here yet."""
    names = [task for task in tasks_of(spec) if task != "vqa"]
    settings = {"segmentation": {"templates": "none"}, "classification": {"templates": "none"}, "captioning": {"max_length": 3}}
    with torch.inference_mode():
        return model.predict(parse(TasksConfig, settings).build(names), batch)


def assert_scores(results: dict[str, list[Any]], batch: Batch, spec: DatasetSpec, root: Path, perfect: bool) -> None:
    """Each evaluator of the entry takes the results; the truth itself scores 100."""
    measured = set()
    for task, rows in results.items():
        for evaluator in evaluators_for(task, spec, root, batch.vocabulary):  # type: ignore[arg-type]
            for result, sample in zip(rows, batch.samples, strict=True):
                evaluator.update(result, sample)
            scores = evaluator.compute()
            assert scores and all(math.isnan(score) or 0 <= score <= 1000 for score in scores.values())
            measured |= scores.keys()
            wanted = {name for kind in spec.evaluators if TASK_OF[kind] == task for name in EXPECTED[kind]} & scores.keys()
            if perfect:
                assert [scores[name] for name in wanted] == pytest.approx([100] * len(wanted))
    expected = {name for kind in spec.evaluators if TASK_OF[kind] in results for name in EXPECTED[kind]}
    assert expected <= measured


def test_semantic_truth_of_a_panoptic_set_is_its_own(tmp_path: Path) -> None:
    """Things of the label image that belong to no object are void for PQ, but count for mIoU."""
    WRITERS["ade20k_panoptic_val"](tmp_path)
    batch = batch_of(tiny("ade20k_panoptic_val"), tmp_path)
    for sample in batch.samples:
        assert sample.label_map is not None and batch.vocabulary is not None
        counts = {batch.vocabulary.names[i]: int((sample.label_map == i).sum()) for i in (0, 7, 149)}
        assert counts == {"wall": 96, "bed": 96, "flag": 96} and int((sample.label_map == -1).sum()) == 96


def test_the_background_of_pascal_voc_is_one_class(tmp_path: Path) -> None:
    """Any of the 39 classes behind the 20 objects is right where the truth is background."""
    WRITERS["voc_20b_val_seg"](tmp_path)
    spec = tiny("voc_20b_val_seg")
    batch = batch_of(spec, tmp_path)
    (evaluator,) = evaluators_for("segmentation", spec, tmp_path, batch.vocabulary)
    for sample in batch.samples:
        result = _segmentation(sample, batch)
        assert result.semantic is not None
        result.semantic[result.semantic == 20] = 58
        evaluator.update(result, sample)
    assert evaluator.compute()["mIoU"] == pytest.approx(100)
    assert set(evaluator.per_class()) == {"aeroplane", "tvmonitor", "background"}


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("coco_karpathy_test", {"count": 5000, "captions": 25010}),
        ("refcocog_val_umd", {"count": 1300, "sentences": 4896}),
        ("ade20k_panoptic_val", {"count": 2000}),
        ("scannet_21_panoptic_val", {"count": 5436}),
        ("vqav2_val2014", {"count": 40504, "questions": 214354}),
    ],
)
def test_expected_counts_are_held_to(name: str, what: dict[str, int], tmp_path: Path) -> None:
    spec = find(name)
    stated = {"count": spec.count, **{k: v for k, v in spec.counts if v is not None}}
    assert stated == what
    WRITERS[name](tmp_path)
    with pytest.raises(ValueError, match=f"has 2 pictures; expected {what['count']}"):
        batch_of(spec, tmp_path)
    fewer = spec.model_copy(update={"count": None})
    for kind, number in list(what.items())[1:]:
        with pytest.raises(ValueError, match=rf"has \d+ {kind}; expected {number}"):
            batch_of(fewer, tmp_path)


@pytest.mark.parametrize(
    ("name", "threshold"),
    [
        ("coco_2017_val_panoptic", 0.8),
        ("ade20k_panoptic_val", 0.4),
        ("cityscapes_fine_panoptic_val", 0.4),
        ("scannet_21_panoptic_val", 0.4),
        ("bdd10k_40_panoptic_val", 0.4),
    ],
)
def test_thresholds_of_published_panoptic_numbers(name: str, threshold: float) -> None:
    assert find(name).measured_with.object_threshold == threshold
