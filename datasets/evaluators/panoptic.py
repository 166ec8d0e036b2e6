"""Panoptic quality (Kirillov et al., CVPR 2019), with the rules of the official panopticapi."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.evaluators.evaluator import Evaluator, check_labels, check_size, percent
from xdecoder.types import PanopticResult, Sample, SegmentationResult, Segments, Vocabulary


@dataclass(frozen=True)
class Tally:
    """One class in one picture: the IoU of each match, and how many segments were missed or made up."""

    ious: tuple[float, ...] = ()
    missed: int = 0
    extra: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.ious + other.ious, self.missed + other.missed, self.extra + other.extra)

    @property
    def defined(self) -> bool:
        return bool(self.ious or self.missed or self.extra)

    def scores(self) -> tuple[float, float, float]:
        """PQ, SQ and RQ, each 0..1; the class must be `defined`."""
        total, matches = math.fsum(self.ious), len(self.ious)
        weight = matches + 0.5 * self.missed + 0.5 * self.extra
        return total / weight, total / matches if matches else 0.0, matches / weight


class PanopticEvaluator(Evaluator[PanopticResult | SegmentationResult, dict[int, Tally]]):
    """PQ, SQ and RQ over all classes, things and stuff; a class in neither truth nor prediction is left out of the means."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.vocabulary = vocabulary

    def update(self, result: PanopticResult | SegmentationResult, sample: Sample) -> None:
        """Match one picture's segments; raises ValueError if id map and segment list disagree or true masks overlap."""
        panoptic = result.panoptic if isinstance(result, SegmentationResult) else result
        if panoptic is None or sample.segments is None:
            raise ValueError(f"picture {sample.id}: panoptic quality needs a panoptic result and the sample's segments")
        check_size(tuple(panoptic.ids.shape), sample, "the panoptic id map")
        predicted, labels = _numbered(panoptic, sample)
        truth, true_labels = _painted(sample.segments, sample), sample.segments.labels.cpu().numpy()
        check_labels(labels.tolist(), self.vocabulary, sample, "predicted")
        check_labels(true_labels.tolist(), self.vocabulary, sample, "annotated")
        rows, columns = len(true_labels) + 1, len(labels) + 1
        overlap = np.bincount((truth * columns + predicted).ravel(), minlength=rows * columns).reshape(rows, columns)
        self._records[sample.id] = _match(overlap, true_labels, sample.segments.crowd.cpu().numpy(), labels)

    def compute(self) -> dict[str, float]:
        """PQ, SQ, RQ and the same with _things and _stuff, in percent; NaN for a group none of whose classes occurs."""
        tallies = list(zip(self._tallies(), self.vocabulary.is_thing, strict=True))
        scores = {}
        for suffix, wanted in (("", (True, False)), ("_things", (True,)), ("_stuff", (False,))):
            group = [tally.scores() for tally, thing in tallies if thing in wanted and tally.defined]
            for i, name in enumerate(("PQ", "SQ", "RQ")):
                scores[name + suffix] = percent(math.fsum(row[i] for row in group), len(group))
        return scores

    def per_class(self) -> dict[str, dict[str, float]]:
        """Class name -> PQ, SQ, RQ in percent and the counts TP, FP, FN, for each class that occurs."""
        table = {}
        for name, tally in zip(self.vocabulary.names, self._tallies(), strict=True):
            if tally.defined:
                pq, sq, rq = (100.0 * score for score in tally.scores())
                table[name] = {"PQ": pq, "SQ": sq, "RQ": rq, "TP": len(tally.ious), "FP": tally.extra, "FN": tally.missed}
        return table

    def _tallies(self) -> list[Tally]:
        found: list[list[Tally]] = [[] for _ in self.vocabulary.names]
        for picture in self._records.values():
            for label, tally in picture.items():
                found[label].append(tally)
        return [_total(tallies) for tallies in found]


def _total(tallies: list[Tally]) -> Tally:
    ious = tuple(iou for tally in tallies for iou in tally.ious)
    return Tally(ious, sum(tally.missed for tally in tallies), sum(tally.extra for tally in tallies))


def _numbered(result: PanopticResult, sample: Sample) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The predicted map with ids 0 = void, 1..P in the order of the segment list, and the P labels."""
    ids = result.ids.cpu().numpy().astype(np.int64)
    listed = [segment.id for segment in result.segments]
    held = [i for i in np.flatnonzero(np.bincount(ids.clip(0).ravel())).tolist() if i != 0]
    if sorted(listed) != held or ids.min(initial=0) < 0:
        raise ValueError(f"picture {sample.id}: the panoptic map holds segments {held}, its segment list {sorted(listed)}")
    number = np.zeros(max(listed, default=0) + 1, dtype=np.int64)
    number[listed] = np.arange(1, len(listed) + 1)
    return number[ids], np.array([segment.label for segment in result.segments], dtype=np.int64)


def _painted(segments: Segments, sample: Sample) -> NDArray[np.int64]:
    """The true map with ids 0 = void, 1..N in the order of the segments."""
    masks = segments.masks.cpu().numpy()
    check_size(masks.shape[1:], sample, "the annotation")
    painted = np.zeros(sample.output_size, dtype=np.int64)
    for number, mask in enumerate(masks, start=1):
        painted[mask] = number
    if np.count_nonzero(painted) != np.count_nonzero(masks):
        raise ValueError(f"picture {sample.id}: annotated segments overlap, which panoptic quality does not allow")
    return painted


def _match(
    overlap: NDArray[np.int64], true_labels: NDArray[np.int64], crowd: NDArray[np.bool_], labels: NDArray[np.int64]
) -> dict[int, Tally]:
    """Compare two sets of segments by their shared pixels.

    Args:
        overlap: (1 + N, 1 + P) pixels shared by true segment and predicted segment; row and column 0 are void.
        true_labels: (N,).
        crowd: (N,) bool.
        labels: (P,).
    """
    void, inter = overlap[0, 1:], overlap[1:, 1:]
    area = overlap.sum(0)[1:]
    union = overlap.sum(1)[1:, None] + area - inter - void
    # A pixel nobody labelled speaks neither for nor against a prediction. Above one half a match is unique.
    match = (2 * inter > union) & (true_labels[:, None] == labels) & ~crowd[:, None]
    missed = true_labels[~match.any(1) & ~crowd]
    # The official tool knows one crowd region a class and picture; if there are more, the last.
    last_crowd = {label: row for row, label in enumerate(true_labels.tolist()) if crowd[row]}
    in_crowd = np.zeros_like(area)
    for column, label in enumerate(labels.tolist()):
        if label in last_crowd:
            in_crowd[column] = inter[last_crowd[label], column]
    extra = labels[~match.any(0) & ~(2 * (void + in_crowd) > area)]

    tallies: dict[int, Tally] = {}
    for row, column in zip(*np.nonzero(match), strict=True):
        label, iou = int(labels[column]), float(inter[row, column] / union[row, column])
        tallies[label] = tallies.get(label, Tally()) + Tally(ious=(iou,))
    for label in missed.tolist():
        tallies[label] = tallies.get(label, Tally()) + Tally(missed=1)
    for label in extra.tolist():
        tallies[label] = tallies.get(label, Tally()) + Tally(extra=1)
    return tallies
