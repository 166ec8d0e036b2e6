"""From predictions to results: semantic, instance and panoptic maps as pure functions (section 3.3 of the paper)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder.config import Config
from xdecoder.types import InstanceResult, PanopticResult, PanopticSegment


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
    """Most likely class of each pixel, (H, W) int64.

    probabilities: (N, K + 1), the last class is background and is not read; masks: (N, H, W) logits.
    """
    return torch.einsum("nk,nhw->khw", probabilities[:, :-1], masks.sigmoid()).argmax(dim=0)


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
