"""Expressions that may mean nothing: what is said to be there, and how well masks cover what is.

Measures of gRefCOCO (Liu et al., GRES, CVPR 2023), as its paper defines them; where the released code computes something else,
that stands beside it as `published`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from datasets.evaluators.evaluator import Evaluator, ImageId, check_finite, check_size, percent
from xdecoder.types import ReferringResult, Sample

THRESHOLDS = (0.7, 0.8, 0.9)


class Expression(NamedTuple):
    """What is known of one expression and the answer to it; plain values."""

    shared: int  # pixels in both masks
    union: int  # pixels in either
    target: bool  # whether it means something
    found: bool  # whether the network says so
    score: float
    kind: str

    @property
    def iou(self) -> float:
        """Of an expression with a target; nothing was gained where the network said that there is none."""
        return self.shared / self.union if self.found and self.union else 0.0


class GrefcocoEvaluator(Evaluator[ReferringResult, tuple[tuple[int, int, bool, bool, float, str], ...]]):
    """gIoU, cIoU, N-acc, T-acc and precisions; where expressions are of several kinds, N-acc and T-acc of each kind too.

    An answer is "nothing" where the result says that the phrase was not found: its score is below the network's threshold, or
    its mask is empty. The mask that would have been drawn counts in cIoU's union, as published.
    """

    def update(self, result: ReferringResult, sample: Sample) -> None:
        """Measure one picture's expressions; raises ValueError unless there is one mask for each, at the output size."""
        phrases = sample.phrases
        count = 0 if phrases is None else len(phrases.texts)
        if len(result.masks) != count or len(result.there) != count:
            raise ValueError(f"picture {sample.id}: {len(result.masks)} masks for {count} phrases")
        if phrases is None or not count:
            self._records[sample.id] = ()
            return
        check_size(tuple(result.masks.shape[1:]), sample, "a phrase's mask")
        check_size(tuple(phrases.masks.shape[1:]), sample, "a phrase's annotation")
        check_finite(result.scores, sample, "a phrase's score")
        predicted, true = result.masks.cpu().bool(), phrases.masks.cpu().bool()
        columns = (
            torch.logical_and(predicted, true).flatten(1).sum(1).tolist(),
            torch.logical_or(predicted, true).flatten(1).sum(1).tolist(),
            true.flatten(1).any(dim=1).tolist(),
            result.there.tolist(),
            result.scores.tolist(),
            phrases.kinds or ("",) * count,
        )
        self._records[sample.id] = tuple(zip(*columns, strict=True))

    def compute(self) -> dict[str, float]:
        """grefcoco_gIoU, _cIoU, _N_acc, _T_acc, _precision@0.7 … and _AUROC (of scores, with and without target), in percent.

        A kind of expression that is named has its own, such as grefcoco_N_acc_hard and grefcoco_AUROC_hard. What the released
        code calls T-acc and N-acc is under grefcoco_T_acc_published and grefcoco_N_acc_published.
        """
        every = [Expression(*row) for _, record in self._sorted() for row in record]
        meant, void = [one for one in every if one.target], [one for one in every if not one.target]
        gained = sum(one.iou for one in meant) + sum(not one.found for one in void)
        counted = [one for one in every if one.target or one.found]
        shared = sum(one.shared for one in counted if one.found)
        scores = {
            "gIoU": percent(gained, len(every)),
            "cIoU": percent(shared, sum(one.union for one in counted)),
            "N_acc": _share_of_right(void),
            "T_acc": _share_of_right(meant),
            **{f"precision@{t}": percent(sum(one.iou >= t for one in meant), len(meant)) for t in THRESHOLDS},
            "AUROC": auroc(meant, void),
            **_published(meant, void),
        }
        for kind in sorted({one.kind for one in every} - {""}):
            own = [one for one in every if one.kind == kind]
            name = "T_acc" if own[0].target else "N_acc"
            scores[f"{name}_{kind}"] = _share_of_right(own)
            if not own[0].target:
                scores[f"AUROC_{kind}"] = auroc(meant, own)
        return {f"grefcoco_{name}": value for name, value in scores.items()}

    def per_image(self) -> dict[ImageId, float]:
        """gIoU of each picture's expressions."""
        found: dict[ImageId, float] = {}
        for image, record in self._sorted():
            own = [Expression(*row) for row in record]
            if own:
                found[image] = percent(sum(one.iou if one.target else float(not one.found) for one in own), len(own))
        return found


def _share_of_right(expressions: Sequence[Expression]) -> float:
    return percent(sum(one.found == one.target for one in expressions), len(expressions))


def _published(meant: Sequence[Expression], void: Sequence[Expression]) -> dict[str, float]:
    """Of "nothing" as the positive answer: its precision under the name T-acc, its recall under N-acc, one more in each sum."""
    right, wrong = sum(not one.found for one in void), sum(not one.found for one in meant)
    return {
        "T_acc_published": percent(right, right + wrong + 1),
        "N_acc_published": percent(right, len(void) + 1),
    }


def auroc(meant: Sequence[Expression], void: Sequence[Expression]) -> float:
    """How often an expression with a target scores more than one without, in percent; ties count half, NaN without a pair."""
    if not meant or not void:
        return float("nan")
    low = torch.tensor([one.score for one in void], dtype=torch.float64).sort().values
    high = torch.tensor([one.score for one in meant], dtype=torch.float64)
    wins = torch.searchsorted(low, high) + torch.searchsorted(low, high, right=True)
    return percent(wins.sum().item() / 2, len(meant) * len(void))
