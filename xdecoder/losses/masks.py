"""Mask losses of matched queries: binary cross-entropy and dice at uncertain points."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder.losses.matching import Matches
from xdecoder.ops.points import sample_points, uncertain_points


def mask_losses(
    matches: Matches, mask_embeddings: Tensor, mask_features: Tensor, targets: Sequence[Tensor], points: int
) -> tuple[Tensor, Tensor]:
    """Per layer, the summed losses over matched masks divided by the number of targets: (BCE (L,), dice (L,)).

    Args:
        mask_embeddings: (L, B, Q, C).
        mask_features: (B, C, h, w).
        targets: per picture (N, H, W) bool.
        points: points per mask.
    """
    layers = len(mask_embeddings)
    count = max(sum(len(masks) for masks in targets), 1)
    if len(matches.query) == 0:
        nothing = (mask_embeddings.sum() + mask_features.sum()) * 0
        return nothing.expand(layers), nothing.expand(layers)
    order = torch.argsort(matches.picture, stable=True)
    layer, picture, query, target = (x[order] for x in (matches.layer, matches.picture, matches.query, matches.target))
    chosen = mask_embeddings[layer, picture, query]
    logits, wanted = [], []
    for b in picture.unique().tolist():
        mine = picture == b
        logits.append(torch.einsum("mc,chw->mhw", chosen[mine], mask_features[b]).float())
        wanted.append(targets[b][target[mine]])
    compared = _at_points(logits, wanted, points)
    bce, dice = _bce(*compared), _dice(*compared)
    total = bce.new_zeros(layers)
    return total.index_add(0, layer, bce) / count, total.index_add(0, layer, dice) / count


def _at_points(logits: Sequence[Tensor], wanted: Sequence[Tensor], points: int) -> tuple[Tensor, Tensor]:
    """Logits and targets (M, points) of all masks, at points of their own."""
    places = uncertain_points(torch.cat(list(logits)), points)
    sampled = sample_points(torch.cat(list(logits))[:, None], places)[:, 0]
    sizes = [len(masks) for masks in wanted]
    with torch.no_grad():
        truth = [
            sample_points(masks[:, None].float(), place)[:, 0]
            for masks, place in zip(wanted, places.split(sizes), strict=True)
        ]
    return sampled, torch.cat(truth)


def _bce(logits: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)


def _dice(logits: Tensor, targets: Tensor) -> Tensor:
    inside = logits.sigmoid()
    return 1 - (2 * (inside * targets).sum(1) + 1) / (inside.sum(1) + targets.sum(1) + 1)
