"""Semantic segmentation scores from one confusion matrix, of which only the cells that occur are kept."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from datasets.evaluators.evaluator import Evaluator, ImageId, Table, check_labels, check_scores, check_size, classes_of, percent
from datasets.spec import DatasetSpec
from xdecoder.types import Sample, SegmentationResult, Segments, Vocabulary

Numbers = NDArray[np.int64]
Cells = tuple[Numbers, Numbers, Numbers]  # true class, predicted class, and how many pixels, of each cell that occurs

CHARTED = 30  # classes in the confusion matrix


class SemanticEvaluator(Evaluator[SegmentationResult, Cells]):
    """mIoU, fwIoU, mACC, pACC. Pixels under no segment are ignored; where segments overlap the later one is the truth.

    The mean IoU is over the classes found in truth or prediction: one that is predicted but nowhere true counts with 0.
    Where a sample has a label map, that is the truth, and -1 in it is ignored.

    Args:
        fold: predicted labels from this one on count as it, which is called "background" in scores.
    """

    reads = "semantic"

    def __init__(self, vocabulary: Vocabulary, fold: int | None = None) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.fold = fold

    @classmethod
    def of(cls, spec: DatasetSpec, root: Path, vocabulary: Vocabulary | None) -> Self:
        return cls(classes_of(spec, vocabulary), spec.measured_with.fold)

    def update(self, result: SegmentationResult, sample: Sample) -> None:
        """Count one picture's pixels; raises ValueError for a missing map, a wrong size or a label outside the vocabulary."""
        if result.semantic is None or (sample.segments is None and sample.label_map is None):
            raise ValueError(f"picture {sample.id}: semantic scores need a semantic map and the sample's segments or label map")
        check_size(tuple(result.semantic.shape), sample, "the semantic map")
        check_scores(result, sample)
        truth = true_labels(sample)
        labelled = truth >= 0
        true, predicted = truth[labelled], result.semantic.cpu().numpy()[labelled].astype(np.int64)
        if true.size:
            check_labels([int(true.max())], self.vocabulary, sample, "annotated")
            check_labels([int(predicted.min()), int(predicted.max())], self.vocabulary, sample, "predicted")
        if self.fold is not None:
            predicted = np.minimum(predicted, self.fold)
        self._records[sample.id] = _cells(true, predicted, len(self.vocabulary))

    def compute(self) -> dict[str, float]:
        """mIoU, fwIoU (weighted by true pixels), mACC (mean recall) and pACC (pixel accuracy), in percent."""
        hits, true, union = self._counts(self._records.values())
        occurs = true > 0
        iou = hits[occurs] / union[occurs]
        recall = hits[occurs] / true[occurs]
        return {
            "mIoU": percent(float(iou.sum()), int((union > 0).sum())),
            "fwIoU": percent(float((iou * true[occurs]).sum()), int(true.sum())),
            "mACC": percent(float(recall.sum()), int(occurs.sum())),
            "pACC": percent(int(hits.sum()), int(true.sum())),
        }

    def per_class(self) -> Table:
        """Class name -> IoU and ACC (recall) in percent, for each class found in truth or prediction."""
        counts = self._counts(self._records.values())
        names = list(self.vocabulary.names)
        if self.fold is not None:
            names[self.fold] = "background"
        rows = zip(names, *(column.tolist() for column in counts), strict=True)
        return {name: {"IoU": percent(hit, union), "ACC": percent(hit, true)} for name, hit, true, union in rows if union}

    def per_image(self) -> dict[ImageId, float]:
        """mIoU of each picture alone."""
        scores = {}
        for image, cells in self._sorted():
            hits, _, union = self._counts([cells])
            occurs = union > 0
            if occurs.any():
                scores[image] = 100.0 * float((hits[occurs] / union[occurs]).mean())
        return scores

    def charts(self) -> dict[str, Any]:
        """The confusion matrix of the most frequent classes: a row for each true one, with the shares of its pixels."""
        classes = len(self.vocabulary)
        matrix = np.zeros((classes, classes), dtype=np.int64)
        for rows, columns, counts in self._records.values():
            np.add.at(matrix, (rows, columns), counts)
        true = matrix.sum(axis=1)
        shown = np.sort(np.argsort(-(true + matrix.sum(axis=0)), kind="stable")[:CHARTED])
        shown = shown[(true[shown] > 0) | (matrix.sum(axis=0)[shown] > 0)]
        names = [*(self.vocabulary.names[label] for label in shown), "others"]
        part = matrix[shown]
        others = part.sum(axis=1) - part[:, shown].sum(axis=1)
        shares = np.column_stack((part[:, shown], others)) / np.maximum(true[shown], 1)[:, None]
        return {"confusion": {"names": names, "shares": np.round(shares, 4).tolist()}} if len(shown) > 1 else {}

    def _counts(self, records: Iterable[Cells]) -> tuple[Numbers, Numbers, Numbers]:
        """(C,) pixels that are right, true, and true or predicted, of each class."""
        classes = len(self.vocabulary)
        hits, true, predicted = (np.zeros(classes, dtype=np.int64) for _ in range(3))
        for rows, columns, counts in records:
            np.add.at(true, rows, counts)
            np.add.at(predicted, columns, counts)
            right = rows == columns
            np.add.at(hits, rows[right], counts[right])
        return hits, true, true + predicted - hits


def _cells(true: Numbers, predicted: Numbers, classes: int) -> Cells:
    """Counts of the pairs that occur; memory goes with the classes of this picture, not with the square of all."""
    rows, columns = (np.flatnonzero(np.bincount(labels, minlength=classes)) for labels in (true, predicted))
    places = np.zeros(classes, dtype=np.int64)
    places[columns] = np.arange(len(columns))
    lines = np.zeros(classes, dtype=np.int64)
    lines[rows] = np.arange(len(rows)) * len(columns)
    counts = np.bincount(lines[true] + places[predicted], minlength=len(rows) * len(columns))
    cells = np.flatnonzero(counts)
    line, place = np.divmod(cells, max(len(columns), 1))
    return rows[line], columns[place], counts[cells]


def true_labels(sample: Sample) -> Numbers:
    """(H, W) the class of each pixel, -1 where it has none: the sample's label map or, if it has none, its segments."""
    if sample.label_map is not None:
        check_size(tuple(sample.label_map.shape), sample, "the label map")
        return sample.label_map.cpu().numpy().astype(np.int64)
    assert sample.segments is not None
    return _painted(sample.segments, sample)


def _painted(segments: Segments, sample: Sample) -> Numbers:
    masks, labels = segments.masks.cpu().numpy(), segments.labels.tolist()
    check_size(masks.shape[1:], sample, "the annotation")
    painted = np.full(sample.output_size, -1, dtype=np.int64)
    for mask, label in zip(masks, labels, strict=True):
        painted[mask] = label
    return painted
