"""From predictions to results: semantic, instance and panoptic maps as pure functions (section 3.3 of the paper)."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder.config import Config
from xdecoder.types import InstanceResult, PanopticResult, PanopticSegment, SegmentationResult

_PIXELS, _CLASSES = 1 << 14, 256       # of a block of sums in the semantic map


class ReadoutConfig(Config):
    """Thresholds of the post-processing; part of every score's protocol."""

    object_threshold: float = 0.8
    """Panoptic: a query counts if its best class is at least this likely (published: 0.4 for open vocabularies)."""
    overlap_threshold: float = 0.8
    """Panoptic: a segment is dropped if less than this share of its mask is left to it by others."""
    detections: int = 100
    """Instances kept per picture."""


def resize_masks(logits: Tensor, padded: tuple[int, int], size: tuple[int, int], output: tuple[int, int]) -> Tensor:
    """Mask logits (N, h, w) → padded input size → cut to the picture → output size; bicubic, antialiased: (N, *output)."""
    full = F.interpolate(logits[None].float(), size=padded, mode="bicubic", antialias=True)[..., : size[0], : size[1]]
    if size != output:
        full = F.interpolate(full, size=output, mode="bicubic", antialias=True)
    return full[0]


def semantic_map(probabilities: Tensor, masks: Tensor) -> Tensor:
    """Most likely class of each pixel, (H, W) int64: that of the largest sum of class times mask over the queries.

    However many classes and pixels there are, sums are made of few of both at a time. Classes come in the order of their most
    likely query; where even that cannot lift them above a pixel's best so far, no sum is made, and the result is the same.

    probabilities: (N, K + 1), the last class is background and is not read; masks: (N, H, W) logits.
    """
    ceilings, order = probabilities[:, :-1].amax(dim=0).sort(descending=True, stable=True)
    classes = probabilities[:, order]
    blocks = masks.flatten(1).split(_PIXELS, dim=1)
    return order[torch.cat([_winners(classes, ceilings, block.sigmoid()) for block in blocks])].view(masks.shape[-2:])


def _winners(classes: Tensor, ceilings: Tensor, weights: Tensor) -> Tensor:
    """Which of K classes (N, K), their largest entries `ceilings` (K,) falling, wins at each of P pixels (N, P): (P,)."""
    best, winner = (weights.T @ classes[:, :_CLASSES]).max(dim=1)
    rounding = 1 + 64 * torch.finfo(best.dtype).eps
    most = weights.sum(dim=0) * rounding
    for start in range(_CLASSES, len(ceilings), _CLASSES):
        undecided = (most * ceilings[start] >= best).nonzero()[:, 0]
        if not len(undecided):
            break
        sums, found = (weights[:, undecided].T @ classes[:, start : start + _CLASSES]).max(dim=1)
        better = sums > best[undecided]
        best[undecided[better]], winner[undecided[better]] = sums[better], found[better] + start
    return winner


def instances(probabilities: Tensor, masks: Tensor, is_thing: Tensor, detections: int = 100) -> InstanceResult:
    """The most likely (query, class) pairs of thing classes; a score is class times mean mask probability inside the mask.

    probabilities: (N, K + 1); masks: (N, H, W) logits; is_thing: (K,) bool.
    """
    scores, flat = probabilities[:, :-1].flatten().topk(min(detections, probabilities[:, :-1].numel()))
    labels = flat % (probabilities.shape[1] - 1)
    rows = flat // (probabilities.shape[1] - 1)
    things = is_thing[labels]
    scores, labels, chosen = scores[things], labels[things], masks[rows[things]]
    inside = chosen > 0
    quality = (chosen.sigmoid() * inside).sum((1, 2)) / (inside.sum((1, 2)) + 1e-6)
    return InstanceResult(inside, labels, scores * quality)


def panoptic(probabilities: Tensor, masks: Tensor, is_thing: Tensor, config: ReadoutConfig) -> PanopticResult:
    """One segment per pixel: queries compete by score times mask; stuff of one class is one segment.

    probabilities: (N, K + 1); masks: (N, H, W) logits; is_thing: (K,) bool.
    """
    background = probabilities.shape[1] - 1
    scores, labels = probabilities.max(dim=1)
    kept = (labels != background) & (scores > config.object_threshold)
    scores, labels, inside = scores[kept], labels[kept], masks[kept].sigmoid()
    ids = torch.zeros(masks.shape[-2:], dtype=torch.int32, device=masks.device)
    if len(scores) == 0:
        return PanopticResult(ids, ())
    winner = (scores[:, None, None] * inside).argmax(dim=0)
    segments: list[PanopticSegment] = []
    stuff: dict[int, int] = {}
    for row, (score, label) in enumerate(zip(scores.tolist(), labels.tolist(), strict=True)):
        won, own = winner == row, inside[row] >= 0.5
        drawn = won & own
        area, own_area = int(won.sum()), int(own.sum())
        if not drawn.any() or area / own_area < config.overlap_threshold:
            continue
        thing = bool(is_thing[label])
        if not thing and label in stuff:
            ids[drawn] = stuff[label]
            continue
        segments.append(PanopticSegment(len(segments) + 1, label, thing, score))
        ids[drawn] = segments[-1].id
        if not thing:
            stuff[label] = segments[-1].id
    return PanopticResult(ids, tuple(segments))


def relabelled(result: SegmentationResult, labels: Tensor) -> SegmentationResult:
    """A result whose class k is `labels[k]` of a larger vocabulary; labels: (K,) int64."""
    names = labels.tolist()
    semantic, instances, panoptic = result.semantic, result.instances, result.panoptic
    return SegmentationResult(
        semantic=None if semantic is None else labels[semantic],
        instances=None if instances is None else replace(instances, labels=labels[instances.labels]),
        panoptic=None
        if panoptic is None
        else replace(panoptic, segments=tuple(replace(each, label=names[each.label]) for each in panoptic.segments)),
    )
