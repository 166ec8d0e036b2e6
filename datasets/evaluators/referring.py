"""Referring segmentation: how well the mask of each phrase covers what the phrase means."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from datasets.evaluators.evaluator import Evaluator, ImageId, check_finite, check_size, percent
from xdecoder.types import ReferringResult, Sample

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


class ReferringEvaluator(Evaluator[ReferringResult, tuple[tuple[int, int], ...]]):
    """Cumulative IoU (all intersections over all unions), mean IoU, and the share of phrases whose IoU reaches a threshold.

    A phrase whose true and predicted masks are both empty has IoU 0. A picture without phrases counts for nothing.
    """

    def update(self, result: ReferringResult, sample: Sample) -> None:
        """Measure one picture's phrases; raises ValueError unless there is one mask a phrase, at the sample's output size."""
        phrases = 0 if sample.phrases is None else len(sample.phrases.texts)
        if len(result.masks) != phrases:
            raise ValueError(f"picture {sample.id}: {len(result.masks)} masks for {phrases} phrases")
        if sample.phrases is None or not phrases:
            self._records[sample.id] = ()
            return
        check_size(tuple(result.masks.shape[1:]), sample, "a phrase's mask")
        check_finite(result.scores, sample, "a phrase's score")
        predicted, true = result.masks.cpu().bool(), sample.phrases.masks.cpu().bool()
        check_size(tuple(true.shape[1:]), sample, "a phrase's annotation")
        shared = torch.logical_and(predicted, true).flatten(1).sum(1).tolist()
        union = torch.logical_or(predicted, true).flatten(1).sum(1).tolist()
        self._records[sample.id] = tuple(zip(shared, union, strict=True))

    def compute(self) -> dict[str, float]:
        """referring_cIoU, referring_mIoU and referring_precision@0.5 … @0.9, in percent."""
        pairs = [pair for _, record in self._sorted() for pair in record]
        ious = _ious(pairs)
        scores = {
            "referring_cIoU": percent(sum(shared for shared, _ in pairs), sum(union for _, union in pairs)),
            "referring_mIoU": percent(sum(ious), len(ious)),
        }
        return scores | {f"referring_precision@{t}": percent(sum(iou >= t for iou in ious), len(ious)) for t in THRESHOLDS}

    def per_image(self) -> dict[ImageId, float]:
        """Mean IoU of the phrases of each picture."""
        return {image: percent(sum(_ious(pairs)), len(pairs)) for image, pairs in self._sorted() if pairs}


def _ious(pairs: Iterable[tuple[int, int]]) -> list[float]:
    return [shared / union if union else 0.0 for shared, union in pairs]
