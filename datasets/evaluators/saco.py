"""Noun phrases and all their instances, or none: SA-Co's classification-gated F1 (Carion et al., SAM 3, 2025).

A phrase of a picture is judged against whichever of several annotators agrees best with the answer. cgF1 is the F1 of instances
where something is there, times how well presence itself is told (Matthews' correlation).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco
from scipy.optimize import linear_sum_assignment

from datasets.evaluators.evaluator import Evaluator, ImageId, check_finite, check_size
from datasets.evaluators.instance import encode
from datasets.outlines import RunLengths
from datasets.readers.saco import SacoSpec, truths
from datasets.spec import DatasetSpec
from xdecoder.types import ReferringResult, Sample, Vocabulary

LEAST_SCORE = 0.5  # of an instance that counts; it belongs to the measure
THRESHOLDS = tuple((50 + 5 * i) / 100 for i in range(10))
_SMALL, _TINY = 1e-4, 1e-6  # what the official tool adds to denominators: to those of instances, to those of pictures

Numbers = NDArray[np.float64]
Pair = tuple[int, int, tuple[int, ...]]  # predictions, truths, and the matched ones at each threshold: a picture and phrase


class SacoEvaluator(Evaluator[ReferringResult, Pair]):
    """cgF1, IL_MCC, pmF1 and their parts.

    Args:
        annotations: each annotator's outlines by picture and phrase.
    """

    def __init__(self, annotations: Sequence[dict[int | str, list[RunLengths]]]) -> None:
        super().__init__()
        self._annotations = annotations

    @classmethod
    def of(cls, spec: DatasetSpec, root: Path, vocabulary: Vocabulary | None) -> Self:
        if not isinstance(spec, SacoSpec):
            raise ValueError(f"data set {spec.name!r}: evaluator 'saco' measures sets of the reader 'saco'")
        return cls([truths(root / path) for path in spec.annotators])

    def update(self, result: ReferringResult, sample: Sample) -> None:
        """Measure one phrase; raises ValueError unless its instances are there, at the output size."""
        if len(result.instances) != 1:
            raise ValueError(f"picture {sample.id}: expected the instances of one phrase (tasks.referring.several)")
        (found,) = result.instances
        check_size(tuple(found.masks.shape[1:]), sample, "an instance's mask")
        check_finite(found.scores, sample, "an instance's score")
        codes = [code for code, _ in encode(found.masks[found.scores >= LEAST_SCORE])]
        self._records[sample.id] = best_agreement(codes, [held.get(sample.id, []) for held in self._annotations])

    def compute(self) -> dict[str, float]:
        """saco_cgF1, _IL_MCC (as it stands, -100 to 100), _pmF1 …, in percent, and @0.5 and @0.75 of those of instances."""
        return {f"saco_{name}": 100 * value for name, value in scores([pair for _, pair in self._sorted()]).items()}

    def per_image(self) -> dict[ImageId, float]:
        """The mean F1 of each phrase; 100 where rightly nothing was found."""
        return {
            key: 100.0 if not predicted + true else 100 * float(_local((predicted, true, matched)).mean())
            for key, (predicted, true, matched) in self._sorted()
        }


def best_agreement(predicted: Sequence[RunLengths], annotators: Sequence[Sequence[RunLengths]]) -> Pair:
    """Counts against the annotator who agrees best: one with nothing where nothing was said, else by the mean F1."""
    pairs = [_matched(predicted, true) for true in annotators]
    empty = [pair for pair in pairs if not pair[0] + pair[1]]
    return empty[0] if empty else max(pairs, key=lambda pair: float(_local(pair).mean()))


def _matched(predicted: Sequence[RunLengths], true: Sequence[RunLengths]) -> Pair:
    if not predicted or not true:
        return len(predicted), len(true), (0,) * len(THRESHOLDS)
    ious = coco.iou(list(predicted), list(true), [0] * len(true))
    found = ious[linear_sum_assignment(ious, maximize=True)]
    return len(predicted), len(true), tuple(int((found >= threshold).sum()) for threshold in THRESHOLDS)


class _F1(NamedTuple):
    precision: Numbers
    recall: Numbers
    f1: Numbers


def _f1(right: Numbers, predicted: Numbers | float, true: Numbers | float) -> _F1:
    precision, recall = right / (predicted + _SMALL), right / (true + _SMALL)
    return _F1(precision, recall, 2 * precision * recall / (precision + recall + _SMALL))


def _local(pair: Pair) -> Numbers:
    """F1 of one phrase at each threshold."""
    predicted, true, matched = pair
    return _f1(np.array(matched, dtype=np.float64), predicted, true).f1


def scores(pairs: Sequence[Pair]) -> dict[str, float]:
    """All measures, 0 to 1 (NaN for none at all); pmF1 leaves out predictions for phrases that mean nothing."""
    if not pairs:
        return dict.fromkeys(("cgF1", "IL_MCC", "pmF1"), float("nan"))
    right = np.sum([matched for _, _, matched in pairs], axis=0).astype(np.float64)
    both = [pair for pair in pairs if pair[0] and pair[1]]
    true = float(sum(pair[1] for pair in pairs))
    micro = _f1(right, float(sum(pair[0] for pair in pairs)), true)
    positive = _f1(right, float(sum(pair[0] for pair in both)), true)
    presence = _presence(pairs)
    tables = {
        "cgF1": positive.f1 * presence["IL_MCC"],
        "pmF1": positive.f1,
        "positive_precision": positive.precision,
        "precision": micro.precision,
        "recall": micro.recall,
        "F1": micro.f1,
        "macro_F1": np.mean([_local(pair) for pair in both], axis=0) if both else np.full(len(THRESHOLDS), np.nan),
    }
    at = {0.5: THRESHOLDS.index(0.5), 0.75: THRESHOLDS.index(0.75)}
    means = {name: float(values.mean()) for name, values in tables.items()}
    single = {f"{name}@{t}": float(values[place]) for name, values in tables.items() for t, place in at.items()}
    return {**{name: means[name] for name in ("cgF1",)}, **presence, **means, **single}


def _presence(pairs: Sequence[Pair]) -> dict[str, float]:
    """How well it is told whether there is anything at all."""
    hits = sum(bool(predicted and true) for predicted, true, _ in pairs)
    misses = sum(bool(true and not predicted) for predicted, true, _ in pairs)
    alarms = sum(bool(predicted and not true) for predicted, true, _ in pairs)
    silences = len(pairs) - hits - misses - alarms
    product = float(hits + alarms) * float(hits + misses) * float(silences + alarms) * float(silences + misses)
    recall, precision = hits / (hits + misses + _TINY), hits / (hits + alarms + _TINY)
    return {
        "IL_MCC": float(hits * silences - alarms * misses) / (product**0.5 + _TINY),
        "IL_precision": precision,
        "IL_recall": recall,
        "IL_F1": 2 * precision * recall / (precision + recall + _TINY),
        "IL_FPR": alarms / (alarms + silences + _TINY),
    }
