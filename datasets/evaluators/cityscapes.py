"""Cityscapes' own scores: average precision of instances, and the IoU that weighs pixels by the size of their instance.

Both follow cityscapesScripts. Its average precision is not COCO's: a found object that meets no true one is forgiven as far as
it lies on what nobody labelled, on groups or on objects of fewer than 100 pixels; a curve is summed as it is, not its envelope;
and an overlap must exceed its threshold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from datasets.evaluators.evaluator import Evaluator, ImageId, Table, check_labels, check_size, classes_of
from datasets.evaluators.instance import found_objects, read_annotations
from datasets.evaluators.semantic import true_labels
from datasets.outlines import outline_code
from datasets.readers.classes import numbers
from datasets.readers.coco import CocoSpec
from datasets.readers.coco_file import File
from datasets.spec import DatasetSpec
from xdecoder.types import InstanceResult, Sample, SegmentationResult, Vocabulary

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

THRESHOLDS = np.arange(0.5, 1.0, 0.05)
SMALLEST = 100  # pixels of a true object that counts
AVERAGE_SIZES = {
    "person": 3462.4756337644,
    "rider": 3930.4788056518,
    "car": 12794.0202738185,
    "truck": 27855.1264367816,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "motorcycle": 6298.7200839748,
    "bicycle": 4672.3249222261,
}
"""Pixels of an instance of each class, on average over the training set."""


class Overlaps(NamedTuple):
    """The objects of one class in one picture: P found, G true ones. Sizes are in pixels."""

    scores: Floats  # (P,)
    sizes: Floats  # (P,)
    unlabelled: Floats  # (P,) pixels on what nobody labelled
    true_sizes: Floats  # (G,)
    group: Flags  # (G,): several objects that were not told apart
    shared: Floats  # (P, G) pixels


Record = tuple[tuple[int, Any, Any, Any, Any, Any, Any], ...]  # a label and its `Overlaps`, repeated


class CityscapesInstanceEvaluator(Evaluator[InstanceResult | SegmentationResult, Record]):
    """AP and AP50 as cityscapesScripts computes them: the mean over thresholds 0.5 … 0.95 and over classes that occur.

    Args:
        vocabulary: the classes that labels index; only things are scored.
        annotations: the instances JSON that `python -m datasets.prepare cityscapes` makes. `iscrowd` marks groups; an image's
            `unlabelled` holds, as run lengths, what belongs to no class that counts.
        numbers: category id -> label.
    """

    reads = "instances"

    def __init__(self, vocabulary: Vocabulary, annotations: Path, numbers: Mapping[int, int] | None = None) -> None:
        super().__init__()
        self.vocabulary, self._source = vocabulary, annotations
        file = File.read(annotations)
        self._truth = read_annotations(file, vocabulary, numbers)
        self._unlabelled = {image["id"]: image.get("unlabelled") for image in file.content["images"]}
        if None in self._unlabelled.values():
            raise ValueError(
                f"{annotations}: does not say what is unlabelled, which Cityscapes' AP needs; remove it and run "
                "`python -m datasets.prepare cityscapes` again"
            )

    @classmethod
    def of(cls, spec: DatasetSpec, root: Path, vocabulary: Vocabulary | None) -> Self:
        classes = classes_of(spec, vocabulary)
        if not isinstance(spec, CocoSpec) or spec.instances is None:
            raise ValueError(f"data set {spec.name!r}: evaluator 'cityscapes_instance' needs the key instances")
        return cls(classes, root / spec.instances, numbers(spec, len(classes)))

    def update(self, result: InstanceResult | SegmentationResult, sample: Sample) -> None:
        """Compare one picture's objects; raises ValueError where they do not fit the sample or the JSON lacks the picture."""
        if sample.id not in self._truth:
            raise ValueError(f"{self._source}: holds no image with id {sample.id!r}; these are other pictures' annotations")
        found = found_objects(result, self.vocabulary, sample)
        truth: dict[int, list[tuple[Any, bool]]] = defaultdict(list)
        for row in self._truth[sample.id]:
            where = f"{self._source}: annotation {row.get('id')}"
            code = outline_code(row["segmentation"], *sample.output_size, where=where)
            truth[row["label"]].append((code, bool(row.get("iscrowd", 0))))
        where = f"{self._source}: image {sample.id}"
        unlabelled = outline_code(self._unlabelled[sample.id], *sample.output_size, where=where)
        record: list[Any] = []
        for label in sorted({*found, *truth}):
            objects = [each for each in found.get(label, []) if rle.area(each[0])]
            codes, true_codes = [code for code, _ in objects], [code for code, _ in truth.get(label, [])]
            overlaps = Overlaps(
                scores=np.array([score for _, score in objects], dtype=np.float64),
                sizes=_areas(codes),
                unlabelled=_shared(codes, [unlabelled])[:, 0],
                true_sizes=_areas(true_codes),
                group=np.array([group for _, group in truth.get(label, [])], dtype=bool),
                shared=_shared(codes, true_codes),
            )
            record.append((label, *overlaps))
        self._records[sample.id] = tuple(record)

    def compute(self) -> dict[str, float]:
        """AP and AP50 in percent; NaN where no object of any class counts."""
        found = np.array(list(self._classes(self._records.values()).values())).reshape(-1, len(THRESHOLDS))
        return {"AP": 100 * _mean(found), "AP50": 100 * _mean(found[:, :1])}

    def per_class(self) -> Table:
        """Class name -> AP and AP50 in percent, for each class that is true somewhere."""
        classes = sorted(self._classes(self._records.values()).items())
        names = self.vocabulary.names
        return {
            names[label]: {"AP": 100 * _mean(row), "AP50": 100 * float(row[0])} for label, row in classes if row[0] == row[0]
        }

    def per_image(self) -> dict[ImageId, float]:
        """AP of each picture alone."""
        alone = {image: _mean(np.array(list(self._classes([record]).values()))) for image, record in self._sorted()}
        return {image: 100 * ap for image, ap in alone.items() if ap == ap}

    def _classes(self, records: Iterable[Record]) -> dict[int, Floats]:
        """Label -> (T,) AP at each threshold, 0..1; NaN where no object counts."""
        classes: dict[int, list[Overlaps]] = defaultdict(list)
        for record in records:
            for label, *arrays in record:
                classes[label].append(Overlaps(*arrays))
        return {label: np.array([_average_precision(rows, t) for t in THRESHOLDS]) for label, rows in classes.items()}


def _average_precision(pictures: Sequence[Overlaps], threshold: float) -> float:
    outcomes = [_outcome(each, threshold) for each in pictures]
    right, wrong = (np.concatenate([each[i] for each in outcomes]) for i in (0, 1))
    missed = sum(each[2] for each in outcomes)
    if not len(right) + missed:
        return float("nan")
    scores = np.concatenate((right, wrong))
    kinds = np.unique(scores)  # every score is a point of the curve: what scores at least so much counts as found
    hits = len(right) - np.searchsorted(np.sort(right), kinds)
    precision = hits / (len(scores) - np.searchsorted(np.sort(scores), kinds))
    recall = hits / (len(right) + missed)
    if not len(kinds):
        return 0.0
    # One point more: nothing is found, and nothing of it is wrong. A point stands for half the way to both neighbours.
    padded = np.concatenate((recall[:1], recall, (0.0, 0.0)))
    return float(np.append(precision, 1.0) @ ((padded[:-2] - padded[2:]) / 2))


def _outcome(found: Overlaps, threshold: float) -> tuple[Floats, Floats, int]:
    """Scores of what is right, scores of what is wrong, and how many true objects were missed."""
    meets = found.shared / (found.true_sizes + found.sizes[:, None] - found.shared) > threshold
    small = found.true_sizes < SMALLEST
    right, wrong, missed = [], [], 0
    for number in np.flatnonzero(~found.group & ~small):
        scores = np.sort(found.scores[meets[:, number]])
        missed += not len(scores)
        right.append(scores[-1:])  # of several that meet one object the likeliest is it
        wrong.append(scores[:-1])
    forgiven = found.unlabelled + found.shared @ (found.group.astype(int) + small)
    wrong.append(found.scores[~meets.any(1) & (forgiven / found.sizes <= threshold)])
    return np.concatenate([*right, np.zeros(0)]), np.concatenate(wrong), missed


def _areas(codes: Sequence[Any]) -> Floats:
    return np.array(rle.area(list(codes)) if codes else [], dtype=np.float64)


def _shared(codes: Sequence[Any], others: Sequence[Any]) -> Floats:
    """(P, G) pixels that each pair has in common."""
    if not codes or not others:
        return np.zeros((len(codes), len(others)))
    covered = rle.iou(list(codes), list(others), [1] * len(others))  # of a crowd: the share of the former
    return np.asarray((covered * _areas(codes)[:, None]).round(), dtype=np.float64)


def _mean(values: Floats) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


class InstanceIouEvaluator(Evaluator[SegmentationResult, tuple[Floats, Floats, Floats]]):
    """iIoU: the mean over the classes of things of an IoU in which each instance counts as if it had the average size.

    The record of a picture is (C,) pixels that are right, that are missed, both weighted, and that are wrong, of each class.
    """

    reads = "semantic"

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.vocabulary = vocabulary

    @classmethod
    def of(cls, spec: DatasetSpec, root: Path, vocabulary: Vocabulary | None) -> Self:
        return cls(classes_of(spec, vocabulary))

    def update(self, result: SegmentationResult, sample: Sample) -> None:
        """Count one picture's pixels; raises ValueError for what does not fit the sample."""
        if result.semantic is None or sample.segments is None:
            raise ValueError(f"picture {sample.id}: iIoU needs a semantic map and the sample's segments")
        check_size(tuple(result.semantic.shape), sample, "the semantic map")
        predicted, truth = result.semantic.cpu().numpy(), true_labels(sample)
        check_labels(np.unique(predicted).tolist(), self.vocabulary, sample, "predicted")
        count = len(self.vocabulary)
        wrong = np.bincount(predicted[(truth >= 0) & (truth != predicted)], minlength=count).astype(np.float64)
        right, missed = np.zeros(count), np.zeros(count)
        segments = sample.segments
        for mask, label, group in zip(segments.masks.numpy(), segments.labels.tolist(), segments.crowd.tolist(), strict=True):
            size = np.count_nonzero(mask)
            weight = AVERAGE_SIZES.get(self.vocabulary.names[label])
            if weight is None or group or not size:
                continue
            hits = np.count_nonzero(predicted[mask] == label)
            right[label] += hits * weight / size
            missed[label] += (size - hits) * weight / size
        self._records[sample.id] = right, missed, wrong

    def compute(self) -> dict[str, float]:
        """iIoU in percent; NaN where no class of things occurs."""
        values = list(self._scores().values())
        return {"iIoU": 100 * _mean(np.array(values))}

    def per_class(self) -> Table:
        """Class name -> iIoU in percent, for each class of things that is true or predicted somewhere."""
        return {name: {"iIoU": 100 * value} for name, value in self._scores().items() if value == value}

    def _scores(self) -> dict[str, float]:
        if not self._records:
            return {}
        right, missed, wrong = (sum(column) for column in zip(*(record for _, record in self._sorted()), strict=True))
        with np.errstate(invalid="ignore"):
            scores = right / (right + missed + wrong)
        return {name: float(scores[label]) for label, name in enumerate(self.vocabulary.names) if name in AVERAGE_SIZES}
