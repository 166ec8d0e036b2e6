"""Losses of marked objects: which of an object's own queries is to find it, and that it is more alike than all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from xdecoder.losses.matching import Matches, MatchingConfig, match


def match_own(
    similarity: Tensor,
    owner: Tensor,
    mask_embeddings: Tensor,
    mask_features: Tensor,
    targets: Sequence[Tensor],
    config: MatchingConfig,
    generators: Sequence[torch.Generator | None] | None = None,
) -> Matches:
    """The cheapest of each object's own queries, for every layer of every image.

    Args:
        similarity: (L, B, Q, N) of queries and what is marked of each object.
        owner: (Q,) object of each query.
        mask_embeddings: (L, B, Q, C).
        mask_features: (B, C, h, w).
        targets: per image (n, H, W) bool, n ≤ N.
        generators: per image, what its points are drawn from; torch's own if None.
    """
    own = owner[:, None] == torch.arange(similarity.shape[-1], device=owner.device)  # (Q, N)
    scores = similarity.detach().masked_fill(~own, float("-inf")).softmax(dim=2)
    counts = [len(masks) for masks in targets]
    by_image = [scores[:, b, :, :count] for b, count in enumerate(counts)]
    allowed = [own[:, :count] for count in counts]
    return match(by_image, mask_embeddings, mask_features, targets, config, generators, allowed)


def similarity_loss(similarity: Tensor, matches: Matches, count: float) -> Tensor:
    """Cross-entropy (L,) of each matched query among all queries of its image, summed and divided by `count`.

    similarity: (L, B, Q, N).
    """
    chances = similarity.float().log_softmax(dim=2)
    layer, image, query, target = matches.on(similarity.device)
    losses = -chances[layer, image, query, target]
    return similarity.new_zeros(len(similarity), dtype=losses.dtype).index_add(0, layer, losses) / max(count, 1)


def only(matches: Matches, valid: Sequence[Tensor]) -> Matches:
    """The matches (M,) of valid targets; valid: per image (N,) bool."""
    if not len(matches.layer):
        return matches
    offsets = torch.tensor([0, *(len(each) for each in valid)]).cumsum(0)
    kept = torch.cat(list(valid)).cpu()[offsets[matches.image] + matches.target]
    return replace(matches, **{name: getattr(matches, name)[kept] for name in ("layer", "image", "query", "target")})
