"""Mask losses of matched queries: binary cross-entropy and dice at uncertain points."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xdecoder.losses.matching import Matches
from xdecoder.ops.points import sample_points, uncertain_points
from xdecoder.rng import rand_by_image


def mask_losses(
    matches: Matches,
    mask_embeddings: Float[Tensor, "L B Q C"],
    mask_features: Float[Tensor, "B C h w"],
    targets: Sequence[Bool[Tensor, "_ _ _"]],
    points: int,
    count: float | None = None,
    generators: Sequence[torch.Generator | None] | None = None,
) -> tuple[Float[Tensor, " L"], Float[Tensor, " L"]]:
    """Per layer, the summed losses over matched masks divided by the number of targets: (BCE (L,), dice (L,)).

    Args:
        mask_embeddings: (L, B, Q, C).
        mask_features: (B, C, h, w).
        targets: per picture (N, H, W) bool.
        points: points per mask.
        count: the number of targets to divide by; by default those given.
        generators: per picture, what its points are drawn from; torch's own if None.
    """
    layers = len(mask_embeddings)
    count = max(sum(len(masks) for masks in targets) if count is None else count, 1)
    if len(matches.query) == 0:
        nothing = (mask_embeddings.sum() + mask_features.sum()) * 0
        return nothing.expand(layers), nothing.expand(layers)
    images = matches.images
    own = [matches.of(b, mask_features.device) for b in images]  # of each picture layer, query and target
    logits = [
        torch.einsum("mc,chw->mhw", mask_embeddings[layer, b, query], mask_features[b]).float()
        for b, (layer, query, _) in zip(images, own, strict=True)
    ]
    places, sampled = _at_uncertain_points(logits, points, [generators[b] if generators else None for b in images])
    truth = [
        _targets_at(where, targets[b], target, layer, layers)
        for b, (layer, _, target), where in zip(images, own, places.split([len(masks) for masks in logits]), strict=True)
    ]
    wanted, layer = torch.cat(truth), torch.cat([each[0] for each in own])
    bce, dice = _bce(sampled, wanted), _dice(sampled, wanted)
    total = bce.new_zeros(layers)
    return total.index_add(0, layer, bce) / count, total.index_add(0, layer, dice) / count


def _at_uncertain_points(
    logits: Sequence[Tensor], points: int, generators: Sequence[torch.Generator | None]
) -> tuple[Tensor, Tensor]:
    """Points (M, points, 2) of each mask's own, picture by picture, and the logits (M, points) there."""
    maps, sizes = torch.cat(list(logits)), [len(masks) for masks in logits]

    def rand(n: int) -> Tensor:
        return rand_by_image(sizes, n, 2, device=maps.device, generators=generators)

    places = uncertain_points(maps, points, rand)
    return places, sample_points(maps[:, None], places)[:, 0]


@torch.no_grad()
def _targets_at(
    places: Float[Tensor, "M P 2"],
    masks: Bool[Tensor, "N H W"],
    target: Int[Tensor, " M"],
    layer: Int[Tensor, " M"],
    layers: int,
) -> Float[Tensor, "M P"]:
    """What one picture's targets are at points (m, P, 2): (m, P), of which row i reads masks[target[i]] for layer[i].

    A mask is made of numbers once for all layers, which at full size takes more memory than anything else here.
    """
    asked = places.new_zeros(len(masks), layers, *places.shape[1:])
    asked[target, layer] = places
    read = sample_points(masks[:, None].float(), asked.flatten(1, 2))[:, 0]
    return read.unflatten(1, (layers, -1))[target, layer]


def _bce(logits: Float[Tensor, "M P"], targets: Float[Tensor, "M P"]) -> Float[Tensor, " M"]:
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)


def _dice(logits: Float[Tensor, "M P"], targets: Float[Tensor, "M P"]) -> Float[Tensor, " M"]:
    inside = logits.sigmoid()
    return 1 - (2 * (inside * targets).sum(1) + 1) / (inside.sum(1) + targets.sum(1) + 1)
