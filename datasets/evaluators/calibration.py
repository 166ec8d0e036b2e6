"""Do scores of segments mean what they say: of those that score 0.7, are 70 % right?"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from datasets.evaluators.evaluator import Evaluator, check_scores, check_size, classes_of, percent
from datasets.spec import DatasetSpec
from xdecoder.types import Sample, SegmentationResult, Vocabulary

BINS = 15
Scored = tuple[float, bool]  # of one segment: its score, and whether it is right


class CalibrationEvaluator(Evaluator[SegmentationResult, tuple[Scored, ...]]):
    """Expected calibration error of panoptic segments (Guo et al., ICML 2017, 15 bins of equal width).

    A segment is right if a true one of its class has an IoU above 0.5 with it; one that lies mostly on a crowd, or
    where nothing is annotated, counts for nothing.
    """

    reads = "panoptic"

    @classmethod
    def of(cls, spec: DatasetSpec, root: Path, vocabulary: Vocabulary | None) -> Self:
        classes_of(spec, vocabulary)
        return cls()

    def update(self, result: SegmentationResult, sample: Sample) -> None:
        """Take in one picture's segments; raises ValueError without a panoptic result or annotated segments."""
        if result.panoptic is None or sample.segments is None:
            raise ValueError(f"picture {sample.id}: calibration needs a panoptic result and the sample's segments")
        ids, truth = result.panoptic.ids.cpu(), sample.segments
        check_size(tuple(ids.shape), sample, "the id map")
        check_scores(result, sample)
        masks, crowd = truth.masks.cpu().bool(), truth.crowd.cpu()
        told = masks[~crowd].any(dim=0)  # where something is annotated that counts
        found = []
        for segment in result.panoptic.segments:
            mine = ids == segment.id
            area = int(mine.sum())
            if not area or 2 * int((mine & told).sum()) < area:
                continue
            alike = masks[~crowd & (truth.labels.cpu() == segment.label)]
            shared, union = (alike & mine).flatten(1).sum(1), (alike | mine).flatten(1).sum(1)
            found.append((float(segment.score), bool((shared > 0.5 * union).any())))
        self._records[sample.id] = tuple(found)

    def compute(self) -> dict[str, float]:
        """ECE, and ECE_mean_score and ECE_right: the mean score of all segments and the share that is right; in percent."""
        every = [scored for _, record in self._sorted() for scored in record]
        gaps = [count * abs(score - right) for score, right, count in _bins(every)]
        return {
            "ECE": percent(sum(gaps), len(every)),
            "ECE_mean_score": percent(sum(score for score, _ in every), len(every)),
            "ECE_right": percent(sum(right for _, right in every), len(every)),
        }

    def charts(self) -> dict[str, Any]:
        """The reliability of each bin of scores."""
        every = [scored for _, record in self._sorted() for scored in record]
        return {"reliability": [list(row) for row in _bins(every)]} if every else {}


def _bins(scored: list[Scored]) -> list[tuple[float, float, int]]:
    """Of each bin that is not empty, the mean score, the share that is right, and how many there are."""
    held: dict[int, list[Scored]] = {}
    for score, right in scored:
        held.setdefault(min(max(int(score * BINS), 0), BINS - 1), []).append((score, right))
    return [
        (sum(score for score, _ in rows) / len(rows), sum(right for _, right in rows) / len(rows), len(rows))
        for _, rows in sorted(held.items())
    ]
