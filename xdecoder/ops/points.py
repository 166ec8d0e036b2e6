"""Reading maps at points, as PointRend does (Kirillov et al., 2020): masks are compared at samples, never in full."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def sample_points(maps: Float[Tensor, "N C h w"], points: Float[Tensor, "N P 2"]) -> Float[Tensor, "N C P"]:
    """Bilinear values of maps (N, C, h, w) at points (N, P, 2), (x, y) in 0…1 over the whole map: (N, C, P)."""
    grid = (2 * points - 1)[:, :, None]
    return F.grid_sample(maps, grid.to(maps.dtype), align_corners=False).squeeze(3)


@torch.no_grad()
def uncertain_points(
    logits: Tensor, count: int, rand: Callable[[int], Tensor], oversampling: float = 3.0, important: float = 0.75
) -> Tensor:
    """Points (N, count, 2) at which to compare masks of logits (N, h, w).

    Of `oversampling`·count random points the share `important` of `count` with the smallest |logit| is kept; the rest is
    uniformly random.

    Args:
        rand: gives so many uniformly random points for each mask, (N, n, 2).
    """
    chosen = int(important * count)
    candidates = rand(int(oversampling * count))
    doubt = -sample_points(logits[:, None], candidates)[:, 0].abs()
    best = doubt.topk(chosen, dim=1).indices
    kept = candidates.gather(1, best[..., None].expand(-1, -1, 2))
    return torch.cat((kept, rand(count - chosen)), dim=1)
