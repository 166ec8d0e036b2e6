"""Denoising queries: copies of object queries that are shown one annotated region each, in training only.

A network that starts from nothing finds regions late, and what is inside a region cannot be learnt from a query that looks
elsewhere. Denoising queries take part in the same layers and heads, see only their own region and nobody else, and need no
matching. The idea of feeding annotated masks to queries is that of MP-Former (CVPR 2023).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder.decoder.attention import TokenGroup
from xdecoder.decoder.heads import QueryOutputs
from xdecoder.losses.contrastive import cosine_logits
from xdecoder.losses.masks import mask_losses
from xdecoder.losses.matching import Matches
from xdecoder.model import Encoded, XDecoder


def denoising_queries(model: XDecoder, masks: Sequence[Tensor]) -> TokenGroup:
    """For each region (N, H, W) of each picture a query that may look at nothing else."""
    count = max(1, *(len(own) for own in masks))
    regions = torch.stack([F.pad(own, (0, 0, 0, 0, 0, count - len(own))) for own in masks])
    chosen = torch.arange(count, device=model.device) % (model.config.decoder.queries - 1)
    content, position = model.decoder.query_content(chosen), model.decoder.query_position(chosen)
    return TokenGroup(
        "denoising", content.expand(len(masks), -1, -1), position.expand(len(masks), -1, -1), mask=regions.to(model.device)
    )


def denoising_losses(
    model: XDecoder,
    features: Encoded,
    layers: Sequence[QueryOutputs],
    classes: Tensor,
    labels: Sequence[Tensor],
    masks: Sequence[Tensor],
    points: int,
    count: float,
    generators: Sequence[torch.Generator | None],
) -> tuple[Tensor, Tensor, Tensor]:
    """How wrong denoising queries are about class and mask of their regions, per layer: cross-entropy, BCE and dice, each (L,).

    Args:
        layers: what denoising queries say in L layers.
        classes: (K + 1, D) class texts.
        labels, masks: per picture (N,) and (N, H, W).
        points: points per mask.
        count: the number of regions to divide by.
        generators: per picture, what its points are drawn from.
    """
    matches = _own_regions(len(layers), [len(own) for own in labels])
    semantic = torch.stack([rows.semantic for rows in layers])  # (L, B, N, D)
    layer, image, query, _ = matches.on(semantic.device)
    said = semantic[layer, image, query]
    logits = cosine_logits(said, classes, model.language.logit_scale, clamp=False)  # (L·n, K + 1)
    wanted = torch.cat(list(labels)).repeat(len(layers))
    wrong = F.cross_entropy(logits, wanted, reduction="none").view(len(layers), -1).sum(dim=1) / max(count, 1)
    embeddings = torch.stack([rows.mask for rows in layers])
    return wrong, *mask_losses(matches, embeddings, features.mask, masks, points, count, generators)


def _own_regions(layers: int, counts: Sequence[int]) -> Matches:
    """Denoising query k of a picture belongs to its region k, in every layer."""
    image = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    region = torch.cat([torch.arange(count) for count in counts])
    layer = torch.arange(layers).repeat_interleave(len(region))
    return Matches(layer, image.repeat(layers), region.repeat(layers), region.repeat(layers))
