"""Zero-shot classification: is a picture's class the likeliest one, or among the five likeliest?"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from datasets.evaluators.evaluator import Evaluator, ImageId, Table, check_finite, check_labels, classes_of, percent
from datasets.spec import DatasetSpec
from xdecoder.types import ClassificationResult, Sample, Vocabulary

DEPTHS = (1, 5)


class ClassificationEvaluator(Evaluator[ClassificationResult, tuple[int, int]]):
    """top1 and top5. The result lists labels best first; a label that it does not list counts as not found."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.vocabulary = vocabulary

    @classmethod
    def of(cls, spec: DatasetSpec, root: Path, vocabulary: Vocabulary | None) -> Self:
        return cls(classes_of(spec, vocabulary))

    def update(self, result: ClassificationResult, sample: Sample) -> None:
        """Find the picture's class in the list; raises ValueError without one, or for labels outside the vocabulary."""
        if sample.label is None:
            raise ValueError(f"picture {sample.id}: has no class to compare with")
        check_finite(result.scores, sample, "a class's score")
        labels = result.labels.tolist()
        check_labels([sample.label], self.vocabulary, sample, "annotated")
        check_labels(labels, self.vocabulary, sample, "predicted")
        place = labels.index(sample.label) if sample.label in labels else len(self.vocabulary)
        self._records[sample.id] = (sample.label, place)

    def compute(self) -> dict[str, float]:
        """top1 and top5, in percent; NaN without pictures."""
        return _tops([place for _, place in self._records.values()])

    def per_class(self) -> Table:
        """Class name -> top1 and top5 of its pictures, for each class that has some."""
        places: dict[int, list[int]] = {}
        for label, place in self._records.values():
            places.setdefault(label, []).append(place)
        return {self.vocabulary.names[label]: _tops(found) for label, found in sorted(places.items())}

    def per_image(self) -> dict[ImageId, float]:
        """100 / the rank of the picture's class."""
        return {image: 100.0 / (place + 1) for image, (_, place) in self._sorted()}


def _tops(places: list[int]) -> dict[str, float]:
    return {f"top{k}": percent(sum(place < k for place in places), len(places)) for k in DEPTHS}
