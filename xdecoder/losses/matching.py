"""Which query answers for which annotated region: Hungarian matching on class and mask costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from xdecoder.config import Config
from xdecoder.ops.points import sample_points
from xdecoder.rng import rand_by_image

_FORBIDDEN = 1e6  # more than any cost


class MatchingConfig(Config):
    """Weights of the matching costs, and where masks are compared."""

    class_cost: float = 2.0
    mask_cost: float = 5.0
    dice_cost: float = 5.0
    points: int = Field(12544, gt=0, le=2**22)
    """Random points per picture at which masks are compared."""


@dataclass(frozen=True)
class Matches:
    """Matched pairs of all pictures in all layers, M in number. They lie on the processor, where they are found and sorted:
    a GPU would have to be waited for whenever some of them are chosen."""

    layer: Int[Tensor, " M"]
    image: Int[Tensor, " M"]
    query: Int[Tensor, " M"]
    target: Int[Tensor, " M"]  # index among the picture's targets

    @property
    def images(self) -> list[int]:
        """The pictures that have pairs, in order."""
        numbers: list[int] = self.image.unique().tolist()
        return numbers

    def of(self, image: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Layer, query and target of one picture's N pairs, (N,) each, on a device."""
        mine = self.image == image
        layer, query, target = torch.stack((self.layer, self.query, self.target))[:, mine].to(device, non_blocking=True)
        return layer, query, target

    def on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Layer, image, query and target of all pairs, (M,) each, on a device."""
        every = torch.stack((self.layer, self.image, self.query, self.target))
        layer, image, query, target = every.to(device, non_blocking=True)
        return layer, image, query, target


@torch.no_grad()
def match(
    class_scores: Sequence[Float[Tensor, "L Q _"]],
    mask_embeddings: Float[Tensor, "L B Q C"],
    mask_features: Float[Tensor, "B C h w"],
    targets: Sequence[Bool[Tensor, "_ _ _"]],
    config: MatchingConfig,
    generators: Sequence[torch.Generator | None] | None = None,
    allowed: Sequence[Tensor] | None = None,
) -> Matches:
    """The cheapest one-to-one assignment of queries to targets, for every layer of every picture.

    Args:
        class_scores: per picture (L, Q, N): how well query q fits target n by its class, a probability.
        mask_embeddings: (L, B, Q, C).
        mask_features: (B, C, h, w).
        targets: per picture (N, H, W) bool masks.
        generators: per picture, what its points are drawn from; torch's own if None.
        allowed: per picture (Q, N) bool, which pairs may be matched at all; by default all.
    """
    costs: dict[int, Tensor] = {}
    device = mask_features.device
    for b, masks in enumerate(targets):
        if len(masks) == 0:
            continue
        own = generators[b : b + 1] if generators else None
        points = rand_by_image([1], config.points, 2, device=device, generators=own)
        with torch.autocast(device.type, enabled=False):  # costs are differences of large sums, which 16 bits would lose
            wanted = sample_points(masks[None].float(), points)[0]  # (N, P)
            features = sample_points(mask_features[b, None].float(), points)[0]  # (C, P)
            logits = torch.einsum("lqc,cp->lqp", mask_embeddings[:, b].float(), features)
            cost = (
                -config.class_cost * class_scores[b].float()
                + config.mask_cost * pairwise_bce(logits, wanted)
                + config.dice_cost * pairwise_dice(logits, wanted)
            )
        if allowed is not None:
            cost = cost.masked_fill(~allowed[b], _FORBIDDEN)
        costs[b] = cost
    if not costs:
        return Matches(*torch.zeros(4, 0, dtype=torch.int64))
    every = torch.cat([cost.flatten() for cost in costs.values()]).cpu()  # one transfer
    shares = every.split([cost.numel() for cost in costs.values()])
    found = [
        _assign(layer_cost, layer, b)
        for (b, cost), share in zip(costs.items(), shares, strict=True)
        for layer, layer_cost in enumerate(share.view(cost.shape))
    ]
    return Matches(*torch.cat(found, dim=1))


def _assign(cost: Tensor, layer: int, image: int) -> Tensor:
    """(4, n): layer, picture, query and target of the n pairs. A cost that is not a number counts as very high."""
    from scipy.optimize import linear_sum_assignment  # here, since it takes a second, which only training spends

    query, target = linear_sum_assignment(cost.nan_to_num(nan=_FORBIDDEN, posinf=_FORBIDDEN, neginf=-_FORBIDDEN).numpy())
    pairs = torch.stack((torch.from_numpy(query), torch.from_numpy(target)))
    place = torch.tensor([[layer], [image]]).expand(2, pairs.shape[1])
    return torch.cat((place, pairs))


def pairwise_bce(logits: Float[Tensor, "*L Q P"], targets: Float[Tensor, "N P"]) -> Float[Tensor, "*L Q N"]:
    """Mean binary cross-entropy of each of (…, Q, P) logits with each of (N, P) targets: (…, Q, N)."""
    points = logits.shape[-1]
    # BCE(x, t) = softplus(x) - x t, so that one matrix product does for all pairs.
    return (F.softplus(logits).sum(-1, keepdim=True) - logits @ targets.T) / points


def pairwise_dice(logits: Float[Tensor, "*L Q P"], targets: Float[Tensor, "N P"]) -> Float[Tensor, "*L Q N"]:
    """Dice loss of each of (…, Q, P) logits with each of (N, P) targets: (…, Q, N)."""
    inside = logits.sigmoid()
    overlap = inside @ targets.T
    return 1 - (2 * overlap + 1) / (inside.sum(-1, keepdim=True) + targets.sum(-1) + 1)
