"""Panoptic quality (Kirillov et al., CVPR 2019), with the rules of the official panopticapi."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from datasets.evaluators.evaluator import Evaluator, ImageId, Table, check_labels, check_scores, check_size, classes_of, percent
from datasets.spec import DatasetSpec
from xdecoder.types import PanopticResult, Sample, SegmentationResult, Segments, Vocabulary

Row = tuple[int, tuple[float, ...], int, int]  # a label, the IoU of each match, segments missed, segments made up
Map = NDArray[np.integer]


class Tally(NamedTuple):
    """What pictures add up to, in one class or in all."""

    ious: tuple[float, ...]
    missed: int
    extra: int

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Tally:
        ious = tuple(iou for _, ious, _, _ in rows for iou in ious)
        return cls(ious, sum(missed for _, _, missed, _ in rows), sum(extra for _, _, _, extra in rows))

    @property
    def defined(self) -> bool:
        return bool(self.ious or self.missed or self.extra)

    def scores(self) -> tuple[float, float, float]:
        """PQ, SQ and RQ, each 0..1; it must be `defined`."""
        total, matches = math.fsum(self.ious), len(self.ious)
        weight = matches + 0.5 * self.missed + 0.5 * self.extra
        return total / weight, total / matches if matches else 0.0, matches / weight


class PanopticEvaluator(Evaluator[PanopticResult | SegmentationResult, tuple[Row, ...]]):
    """PQ, SQ and RQ over all classes, things and stuff; a class in neither truth nor prediction is left out of the means."""

    reads = "panoptic"

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.vocabulary = vocabulary

    @classmethod
    def of(cls, spec: DatasetSpec, root: Path, vocabulary: Vocabulary | None) -> Self:
        return cls(classes_of(spec, vocabulary))

    def update(self, result: PanopticResult | SegmentationResult, sample: Sample) -> None:
        """Match one picture's segments; raises ValueError if id map and segment list disagree or true masks overlap."""
        panoptic = result.panoptic if isinstance(result, SegmentationResult) else result
        if panoptic is None or sample.segments is None:
            raise ValueError(f"picture {sample.id}: panoptic quality needs a panoptic result and the sample's segments")
        check_size(tuple(panoptic.ids.shape), sample, "the panoptic id map")
        check_scores(result if isinstance(result, SegmentationResult) else SegmentationResult(None, None, result), sample)
        predicted, labels = _numbered(panoptic, sample)
        truth, true_labels = _painted(sample.segments, sample), sample.segments.labels.cpu().numpy()
        check_labels(labels.tolist(), self.vocabulary, sample, "predicted")
        check_labels(true_labels.tolist(), self.vocabulary, sample, "annotated")
        rows, columns = len(true_labels) + 1, len(labels) + 1
        small = np.uint16 if rows * columns <= 1 << 16 else np.int64
        pairs = np.multiply(truth, columns, dtype=small) + predicted.astype(small)
        overlap = np.bincount(pairs.ravel(), minlength=rows * columns).reshape(rows, columns)
        held = np.flatnonzero(overlap[:, 1:].any(0)) + 1
        if len(held) < len(labels):
            _refuse(held.tolist(), (segment.id for segment in panoptic.segments), sample)
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

    def per_class(self) -> Table:
        """Class name -> PQ, SQ, RQ in percent and the counts TP, FP, FN, for each class that occurs."""
        table = {}
        for name, tally in zip(self.vocabulary.names, self._tallies(), strict=True):
            if tally.defined:
                pq, sq, rq = (100.0 * score for score in tally.scores())
                table[name] = {"PQ": pq, "SQ": sq, "RQ": rq, "TP": len(tally.ious), "FP": tally.extra, "FN": tally.missed}
        return table

    def per_image(self) -> dict[ImageId, float]:
        """Panoptic quality of each picture, all classes taken as one."""
        tallies = {image: Tally.of(rows) for image, rows in self._sorted()}
        return {image: 100.0 * tally.scores()[0] for image, tally in tallies.items() if tally.defined}

    def _tallies(self) -> list[Tally]:
        found: dict[int, list[Row]] = defaultdict(list)
        for _, rows in self._sorted():
            for row in rows:
                found[row[0]].append(row)
        return [Tally.of(found[label]) for label in range(len(self.vocabulary))]


def _numbered(result: PanopticResult, sample: Sample) -> tuple[Map, NDArray[np.int64]]:
    """The predicted map with ids 0 = void, 1..P in the order of the segment list, and the P labels.

    Of an id that is listed twice the last entry counts, as in the official tool.
    """
    ids = result.ids.cpu().numpy()
    listed = {segment.id: segment.label for segment in result.segments}
    labels = np.array(list(listed.values()), dtype=np.int64)
    if list(listed) == list(range(1, len(listed) + 1)) and ids.min(initial=0) >= 0 and ids.max(initial=0) <= len(listed):
        return ids, labels
    held, places = np.unique(ids, return_inverse=True)
    if set(held.tolist()) - {0} != set(listed):
        _refuse(held.tolist(), listed, sample)
    number = {id: i for i, id in enumerate(listed, start=1)}
    return np.array([number.get(id, 0) for id in held.tolist()])[places.reshape(ids.shape)], labels


def _refuse(held: Iterable[int], listed: Iterable[int], sample: Sample) -> NoReturn:
    found = [id for id in held if id != 0]
    raise ValueError(f"picture {sample.id}: the panoptic map holds segments {found}, its segment list {sorted(listed)}")


def _painted(segments: Segments, sample: Sample) -> Map:
    """The true map with ids 0 = void, 1..N in the order of the segments."""
    masks = segments.masks.cpu().numpy()
    check_size(masks.shape[1:], sample, "the annotation")
    painted: Map = np.zeros(sample.output_size, dtype=np.uint8 if len(masks) < 256 else np.int64)
    numbered = np.empty_like(painted)
    for number, mask in enumerate(masks, start=1):
        np.multiply(mask, painted.dtype.type(number), out=numbered)
        painted += numbered
    if np.count_nonzero(painted) != np.count_nonzero(masks):
        raise ValueError(f"picture {sample.id}: annotated segments overlap, which panoptic quality does not allow")
    return painted


def _match(
    overlap: NDArray[np.int64], true_labels: NDArray[np.int64], crowd: NDArray[np.bool_], labels: NDArray[np.int64]
) -> tuple[Row, ...]:
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
    pairs = np.nonzero(match)
    return _rows(labels[pairs[1]].tolist(), (inter[pairs] / union[pairs]).tolist(), missed.tolist(), extra.tolist())


def _rows(labels: Iterable[int], ious: Iterable[float], missed: Sequence[int], extra: Sequence[int]) -> tuple[Row, ...]:
    """A row for each label that occurs, from the label and IoU of each match and the labels of the rest."""
    found: dict[int, list[float]] = {label: [] for label in (*missed, *extra)}
    for label, iou in zip(labels, ious, strict=True):
        found.setdefault(label, []).append(iou)
    return tuple((label, tuple(found[label]), missed.count(label), extra.count(label)) for label in sorted(found))
