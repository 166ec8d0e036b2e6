"""What every evaluator is: a scorer that remembers one small record a picture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor

from datasets.spec import DatasetSpec
from xdecoder.types import Form, Sample, SegmentationResult, Vocabulary

Result = TypeVar("Result")
Record = TypeVar("Record")
ImageId = int | str
Table = dict[str, dict[str, float]]


class Evaluator(ABC, Generic[Result, Record]):
    """Scores one task. Fed picture by picture, asked once at the end; a metric that nothing defines is NaN.

    A picture that comes twice, in one process or in several, counts once. Scores do not depend on the order of the pictures.
    A record is made of plain values and arrays, so that it can be sent to another process and kept in a file.
    """

    measures: ClassVar[tuple[str, ...]] = ()
    """Tasks whose results it scores, beside those whose descriptor names it."""

    reads: ClassVar[Form | None] = None
    """The one form of a segmentation that it reads, None: perhaps all. Forms that no evaluator of a set reads are not made."""

    def __init__(self) -> None:
        self._records: dict[ImageId, Record] = {}

    @classmethod
    def of(cls, spec: DatasetSpec, root: Path, vocabulary: Vocabulary | None) -> Self:
        """The evaluator as a data set is measured with it.

        Args:
            root: data root, from which the paths in `spec` are counted.
            vocabulary: what labels index; None where the set has no classes.
        """
        return cls()

    @abstractmethod
    def update(self, result: Result, sample: Sample) -> None:
        """Take in the result for one picture; raises ValueError where it does not fit the sample."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Metric -> value in percent, over all pictures so far."""

    def per_class(self) -> Table:
        """Class name -> its own scores, for each class that occurs; empty where scores have no classes."""
        return {}

    def per_image(self) -> dict[ImageId, float]:
        """How well each picture went by itself, 0 to 100, to find the worst and the best; empty where that says nothing."""
        return {}

    def charts(self) -> dict[str, Any]:
        """What a report draws, as plain values: "confusion" (of pixels) and "objects" with names and rows of shares,
        "precision_recall" by class, "by_score" with precision, recall and F1."""
        return {}

    def notes(self) -> list[str]:
        """What a reader of the scores has to know, such as what could not be measured here."""
        return []

    def state(self) -> dict[ImageId, Record]:
        """What has been taken in, as plain values that can be sent to another process."""
        return dict(self._records)

    def merge(self, states: Iterable[Mapping[ImageId, Any]]) -> None:
        """Take in what other processes' `state()` gave; one's own may be among them."""
        for state in states:
            self._records.update(state)

    def _sorted(self) -> list[tuple[ImageId, Record]]:
        """Records in the order of the picture ids."""
        return sorted(self._records.items(), key=lambda item: (isinstance(item[0], str), item[0]))


def classes_of(spec: DatasetSpec, vocabulary: Vocabulary | None) -> Vocabulary:
    """The vocabulary; raises ValueError for a set without one."""
    if vocabulary is None:
        raise ValueError(f"data set {spec.name!r}: scores of classes cannot be had without class names")
    return vocabulary


def percent(part: float, whole: float) -> float:
    """100 * part / whole; NaN where there is no whole."""
    return 100.0 * part / whole if whole else float("nan")


def check_size(found: tuple[int, ...], sample: Sample, what: str) -> None:
    """Raise ValueError unless a map or mask has the size in which the sample's prediction is asked for."""
    if tuple(found) != tuple(sample.output_size):
        raise ValueError(f"picture {sample.id}: {what} is {tuple(found)} (height, width), expected {tuple(sample.output_size)}")


def check_finite(values: Tensor | Sequence[float], sample: Sample, what: str) -> None:
    """Raise ValueError for outputs that are infinite or not a number: scores of them would say something of nothing."""
    if not torch.as_tensor(values, dtype=torch.float64).isfinite().all():
        raise ValueError(
            f"picture {sample.id}: {what} is not finite (NaN or infinite); the network's weights or its precision are at fault"
        )


def check_scores(result: SegmentationResult, sample: Sample) -> None:
    """`check_finite` for all scores in a segmentation, since maps are made of the same numbers but do not show it."""
    if result.instances is not None:
        check_finite(result.instances.scores, sample, "an instance's score")
    if result.panoptic is not None:
        check_finite([segment.score for segment in result.panoptic.segments], sample, "a segment's score")


def check_labels(labels: Sequence[int], vocabulary: Vocabulary, sample: Sample, whose: str) -> None:
    """Raise ValueError unless every label names a class of the vocabulary."""
    outside = [label for label in labels if not 0 <= label < len(vocabulary)]
    if outside:
        raise ValueError(f"picture {sample.id}: {whose} label {outside[0]}, but there are {len(vocabulary)} classes, from 0")
