"""What found things were taken for: counts for a chart, and no score."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from datasets.evaluators.evaluator import Evaluator, classes_of
from datasets.evaluators.instance import encode, found_objects
from datasets.spec import DatasetSpec
from xdecoder.types import InstanceResult, Sample, SegmentationResult, Vocabulary

SURE = 0.25  # least score of an object that counts
COVERED = 0.5  # least IoU of an object and what was found of it
NOTHING = -1

Pairs = tuple[tuple[int, int], ...]  # true and found label of each object; NOTHING where the other side has none


class ObjectConfusion(Evaluator[InstanceResult | SegmentationResult, Pairs]):
    """Pairs the true things of a picture with those found, whatever their classes, the best covered first."""

    reads = "instances"

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.vocabulary = vocabulary

    @classmethod
    def of(cls, spec: DatasetSpec, root: Path, vocabulary: Vocabulary | None) -> Self:
        return cls(classes_of(spec, vocabulary))

    def update(self, result: InstanceResult | SegmentationResult, sample: Sample) -> None:
        objects = found_objects(_sure(result), self.vocabulary, sample)
        found = [(label, code) for label, some in objects.items() for code, _ in some]
        segments = sample.segments
        assert segments is not None, "the loader brings what the task needs"
        kept = ~segments.crowd
        labels = segments.labels[kept].tolist()
        codes = [code for code, _ in encode(segments.masks[kept])]
        true = [(label, code) for label, code in zip(labels, codes, strict=True) if self.vocabulary.is_thing[label]]
        self._records[sample.id] = tuple(_paired(true, found))

    def compute(self) -> dict[str, float]:
        return {}

    def charts(self) -> dict[str, Any]:
        """Names, "nothing" the last of them, and by true class the shares of what its objects were taken for."""
        counts = Counter(pair for _, pairs in self._sorted() for pair in pairs)
        labels = sorted({label for pair in counts for label in pair if label != NOTHING})
        if not labels:
            return {}
        order = [*labels, NOTHING]
        table = np.array([[counts[true, found] for found in order] for true in order], dtype=np.float64)
        shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
        names = [*(self.vocabulary.names[label] for label in labels), "nothing"]
        return {"objects": {"names": names, "shares": shares.round(4).tolist()}}


def _sure(result: InstanceResult | SegmentationResult) -> InstanceResult | None:
    """The instances that count: most score next to nothing, and need not be encoded."""
    found = result.instances if isinstance(result, SegmentationResult) else result
    if found is None:
        return None
    kept = found.scores >= SURE
    return InstanceResult(found.masks[kept], found.labels[kept], found.scores[kept])


def _paired(true: list[tuple[int, Any]], found: list[tuple[int, Any]]) -> list[tuple[int, int]]:
    """Label pairs, the best covered first; what is left over is paired with nothing."""
    pairs, overlaps = [], _overlaps(true, found)
    free = [set(range(len(true))), set(range(len(found)))]
    for place in np.argsort(-overlaps, axis=None, kind="stable").tolist():
        row, column = divmod(place, len(found))
        if overlaps[row, column] < COVERED:
            break
        if row in free[0] and column in free[1]:
            free[0].remove(row)
            free[1].remove(column)
            pairs.append((true[row][0], found[column][0]))
    pairs += [(true[row][0], NOTHING) for row in sorted(free[0])]
    return pairs + [(NOTHING, found[column][0]) for column in sorted(free[1])]


def _overlaps(true: list[tuple[int, Any]], found: list[tuple[int, Any]]) -> NDArray[np.float64]:
    """(true, found) IoU."""
    if not true or not found:
        return np.zeros((len(true), len(found)))
    return np.asarray(rle.iou([code for _, code in true], [code for _, code in found], [0] * len(found)))
