"""Multi-scale deformable attention in plain PyTorch (Zhu et al., 2021, equation 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def deformable_attention(values: Tensor, shapes: Sequence[tuple[int, int]], places: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of bilinear samples of several maps; outside a map all is zero.

    Args:
        values: (B, sum of h·w, heads, d), the maps one after the other, each row by row.
        shapes: (h, w) of each of the L maps.
        places: (B, N, heads, L, P, 2), (x, y) in 0…1 over the whole map: pixel (0, 0) has its centre at (0.5/w, 0.5/h).
        weights: (B, N, heads, L, P).

    Returns:
        (B, N, heads · d); computed in float32 also under autocast.
    """
    batch, pixels, heads, width = values.shape
    device = values.device
    assert places.shape[3] == len(shapes) and pixels == sum(height * width for height, width in shapes)
    with torch.autocast(device.type, enabled=False):
        heights, widths = (torch.tensor(sizes, device=device)[:, None] for sizes in zip(*shapes, strict=True))  # (L, 1)
        starts = (heights * widths).cumsum(0) - heights * widths
        x, x_shares = _neighbours(places[..., 0].float(), widths)  # (B, N, heads, L, P, 2)
        y, y_shares = _neighbours(places[..., 1].float(), heights)
        corners = (y * widths[..., None] + starts[..., None])[..., None] + x[..., None, :]  # (…, P, 2, 2)
        shares = (y_shares * weights.float()[..., None])[..., None] * x_shares[..., None, :]
        # What a token's head reads is one bag of rows of a table: the samples themselves are never stored.
        image = torch.arange(batch, device=device).view(-1, 1, 1, 1)
        head = torch.arange(heads, device=device).view(-1, 1)
        rows = (corners.flatten(3) + image * pixels) * heads + head
        table = values.float().reshape(-1, width)
        bags = F.embedding_bag(rows.flatten(0, 2), table, mode="sum", per_sample_weights=shares.flatten(3).flatten(0, 2))
    return bags.view(batch, -1, heads * width)


def _neighbours(places: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Along one axis the two pixels around each place (…, L, P) in maps of `sizes` (L, 1), and their shares: (…, L, P, 2)."""
    pixels = places * sizes - 0.5
    low = pixels.floor().detach()
    beyond = pixels - low
    indices = low.long()[..., None] + torch.arange(2, device=places.device)
    # Clamped as whole numbers: a place that is not a number must give such a result, not a row outside the table.
    inside = indices.clamp(min=0).minimum(sizes[..., None] - 1)
    return inside, torch.stack((1 - beyond, beyond), dim=-1) * (inside == indices)
