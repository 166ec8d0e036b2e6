"""Semantic segmentation scores from one confusion matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datasets.evaluators.evaluator import Evaluator, check_labels, check_size, percent
from xdecoder.types import Sample, SegmentationResult, Segments, Vocabulary

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]    # which cells of the flat confusion matrix, and how many pixels each


class SemanticEvaluator(Evaluator[SegmentationResult, Pairs]):
    """mIoU, fwIoU, mACC, pACC. Pixels under no segment are ignored; where segments overlap the later one is the truth.

    The mean IoU is over the classes found in truth or prediction: one that is predicted but nowhere true counts with 0.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.vocabulary = vocabulary

    def update(self, result: SegmentationResult, sample: Sample) -> None:
        """Count one picture's pixels; raises ValueError for a missing map, a wrong size or a label outside the vocabulary."""
        if result.semantic is None or sample.segments is None:
            raise ValueError(f"picture {sample.id}: semantic scores need a semantic map and the sample's segments")
        check_size(tuple(result.semantic.shape), sample, "the semantic map")
        truth = _painted(sample.segments, sample)
        labelled = truth >= 0
        true, predicted = truth[labelled], result.semantic.cpu().numpy()[labelled].astype(np.int64)
        check_labels(sample.segments.labels.tolist(), self.vocabulary, sample, "annotated")
        if predicted.size:
            check_labels([int(predicted.min()), int(predicted.max())], self.vocabulary, sample, "predicted")
        classes = len(self.vocabulary)
        counts = np.bincount(true * classes + predicted, minlength=classes * classes)
        cells = np.flatnonzero(counts)
        self._records[sample.id] = (cells, counts[cells])

    def confusion(self) -> NDArray[np.int64]:
        """(C, C) pixels of true class (row) given as another (column)."""
        classes = len(self.vocabulary)
        total = np.zeros(classes * classes, dtype=np.int64)
        for cells, counts in self._records.values():
            total[cells] += counts
        return total.reshape(classes, classes)

    def compute(self) -> dict[str, float]:
        """mIoU, fwIoU (weighted by true pixels), mACC (mean recall) and pACC (pixel accuracy), in percent."""
        hits, true, union = self._counts()
        occurs = true > 0
        iou = hits[occurs] / union[occurs]
        recall = hits[occurs] / true[occurs]
        return {
            "mIoU": percent(float(iou.sum()), int((union > 0).sum())),
            "fwIoU": percent(float((iou * true[occurs]).sum()), int(true.sum())),
            "mACC": percent(float(recall.sum()), int(occurs.sum())),
            "pACC": percent(int(hits.sum()), int(true.sum())),
        }

    def per_class(self) -> dict[str, dict[str, float]]:
        """Class name -> IoU and ACC (recall) in percent, for each class found in truth or prediction."""
        rows = zip(self.vocabulary.names, *(counts.tolist() for counts in self._counts()), strict=True)
        return {name: {"IoU": percent(hit, union), "ACC": percent(hit, true)} for name, hit, true, union in rows if union}

    def _counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        confusion = self.confusion()
        hits, true = np.diag(confusion), confusion.sum(1)
        return hits, true, true + confusion.sum(0) - hits


def _painted(segments: Segments, sample: Sample) -> NDArray[np.int64]:
    masks, labels = segments.masks.cpu().numpy(), segments.labels.tolist()
    check_size(masks.shape[1:], sample, "the annotation")
    painted = np.full(sample.output_size, -1, dtype=np.int64)
    for mask, label in zip(masks, labels, strict=True):
        painted[mask] = label
    return painted
