"""COCO average precision from overlaps: what pycocotools' COCOeval computes, from small records instead of many dictionaries.

`match` pairs the found with the true objects of one class in one picture; `average_precision` takes the records of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))  # all, small, medium, large; in pixels
DETECTIONS = (1, 10, 100)
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


class Matches(NamedTuple):
    """The objects of one class in one picture. A = areas, T = thresholds, D = found objects, the likeliest first."""

    scores: Floats  # (D,)
    hit: Flags  # (A, T, D): is it one of the true objects?
    ignored: Flags  # (A, T, D): does it count neither as right nor as wrong?
    truths: NDArray[np.int64]  # (A,) true objects that count


def match(overlaps: Floats, scores: Floats, areas: Floats, true_areas: Floats, crowd: Flags) -> Matches:
    """Pair found with true objects, the likeliest first, each with the free one that it covers best.

    Args:
        overlaps: (D, G) IoU; with a crowd, the covered share of the found object.
        scores, areas: (D,) of the found objects.
        true_areas, crowd: (G,); crowds, and objects outside the range of areas, are matched last and do not count.
    """
    order = np.argsort(-scores, kind="stable")[: DETECTIONS[-1]]
    scores, areas = scores[order], areas[order]
    low, high = (np.array(limits)[:, None] for limits in zip(*AREAS, strict=True))
    outside = (areas < low) | (areas > high)  # (A, D)
    apart = crowd | (true_areas < low) | (true_areas > high)  # (A, G)
    hit = np.zeros((len(AREAS), len(THRESHOLDS), len(order)), dtype=bool)
    ignored = np.zeros_like(hit)
    if len(true_areas):
        _assign(overlaps[order], apart, crowd, hit, ignored)
    ignored |= ~hit & outside[:, None]
    return Matches(scores, hit, ignored, (~apart).sum(1))


def _assign(overlaps: Floats, apart: Flags, crowd: Flags, hit: Flags, ignored: Flags) -> None:
    """Fill `hit` and `ignored` (A, T, D); of equal overlaps the later object is taken."""
    enough = np.minimum(THRESHOLDS, 1 - 1e-10)
    free = np.ones((*hit.shape[:2], len(crowd)), dtype=bool)  # (A, T, G)
    counted = ~apart[:, None]  # (A, 1, G)
    for number in np.flatnonzero((overlaps >= enough[0]).any(1)):
        overlap = overlaps[number]
        open_ = free & (overlap >= enough[:, None])  # (A, T, G)
        best, chosen = _last_best(overlap, open_ & counted)
        among_apart, second = _last_best(overlap, open_ & ~counted)
        chosen = np.where(best, chosen, second)
        hit[..., number] = best | among_apart
        ignored[..., number] = ~best & among_apart
        area, threshold = np.nonzero(hit[..., number])
        taken = chosen[area, threshold]
        free[area, threshold, taken] = crowd[taken]  # a crowd holds any number


def _last_best(overlap: Floats, open_: Flags) -> tuple[Flags, NDArray[np.int64]]:
    """(A, T) is any object open, and the last of those with the largest overlap."""
    values = np.where(open_, overlap, -1.0)[..., ::-1]
    return np.asarray(open_.any(-1)), open_.shape[-1] - 1 - values.argmax(-1)


def average_precision(classes: Mapping[int, Sequence[Matches]]) -> tuple[dict[str, float], dict[int, float]]:
    """The twelve figures of COCO, 0..1, and the AP of each class; NaN where no such object is true.

    Args:
        classes: label -> the records of its pictures in the order of the pictures, which decides between equal scores.
    """
    curves = {label: _curves(records) for label, records in classes.items() if records}
    precision = np.array([curve for curve, _ in curves.values()]).reshape(-1, len(AREAS), len(THRESHOLDS), len(RECALLS))
    recall = np.array([ends for _, ends in curves.values()]).reshape(-1, len(AREAS), len(DETECTIONS), len(THRESHOLDS))
    figures = [precision[:, 0], precision[:, 0, 0], precision[:, 0, 5], *(precision[:, area] for area in (1, 2, 3))]
    figures += [recall[:, 0, 0], recall[:, 0, 1], recall[:, 0, 2], *(recall[:, area, 2] for area in (1, 2, 3))]
    scores = {name: _mean(values) for name, values in zip(NAMES, figures, strict=True)}
    return scores, {label: _mean(curve[0]) for label, (curve, _) in curves.items()}


def precision_recall(classes: Mapping[int, Sequence[Matches]]) -> dict[int, Floats]:
    """Label -> the precision (R,) at IoU 0.5 for each of `RECALLS`, of the classes that are true somewhere."""
    curves = {label: _curves(records)[0][0, 0] for label, records in classes.items() if records}
    return {label: curve for label, curve in curves.items() if not np.isnan(curve).any()}


def by_score(classes: Mapping[int, Sequence[Matches]]) -> dict[str, list[float | None]]:
    """Precision, recall and F1 in percent at IoU 0.5 of all objects together, of those that score 0, 0.05, … 1 at least.

    None where nothing scores so much, and so nothing is precise or not.
    """
    records = [record for some in classes.values() for record in some]
    truths = sum(int(record.truths[0]) for record in records)
    scores = np.concatenate([record.scores for record in records] or [np.zeros(0)])
    hit = np.concatenate([record.hit[0, 0] for record in records] or [np.zeros(0, bool)])
    counted = ~np.concatenate([record.ignored[0, 0] for record in records] or [np.zeros(0, bool)])
    found: dict[str, list[float | None]] = {"precision": [], "recall": [], "F1": []}
    for least in np.linspace(0, 1, 21):
        kept = (scores >= least - 1e-9) & counted
        right, told = int((hit & kept).sum()), int(kept.sum())
        for name, whole, part in (("precision", told, right), ("recall", truths, right), ("F1", told + truths, 2 * right)):
            found[name].append(round(100 * part / whole, 2) if whole else None)
    return found


def _mean(values: Floats) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def _curves(records: Sequence[Matches]) -> tuple[Floats, Floats]:
    """(A, T, R) precision at each recall, and (A, M, T) the recall of so many detections a picture; NaN if undefined."""
    precision = np.full((len(AREAS), len(THRESHOLDS), len(RECALLS)), np.nan)
    recall = np.full((len(AREAS), len(DETECTIONS), len(THRESHOLDS)), np.nan)
    truths = np.sum([record.truths for record in records], axis=0)
    for row, most in enumerate(DETECTIONS):
        scores = np.concatenate([record.scores[:most] for record in records])
        order = np.argsort(-scores, kind="stable")
        hit = np.concatenate([record.hit[..., :most] for record in records], axis=2)[..., order]
        ignored = np.concatenate([record.ignored[..., :most] for record in records], axis=2)[..., order]
        right = np.cumsum(hit & ~ignored, axis=-1).astype(float)
        wrong = np.cumsum(~hit & ~ignored, axis=-1).astype(float)
        for area in np.flatnonzero(truths):
            recall[area, row] = right[area, :, -1] / truths[area] if len(order) else 0.0
            if most == DETECTIONS[-1]:
                precision[area] = _interpolated(right[area], wrong[area], int(truths[area]))
    return precision, recall


def _interpolated(right: Floats, wrong: Floats, truths: int) -> Floats:
    """(T, R) the best precision at that recall or a higher one; right and wrong: (T, D) counts so far."""
    reached = right / truths
    precision = right / (right + wrong + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.concatenate((precision, np.zeros((len(precision), 1))), axis=1)  # beyond the last detection
    places = [np.searchsorted(row, RECALLS, side="left") for row in reached]
    return np.take_along_axis(padded, np.array(places), axis=1)
