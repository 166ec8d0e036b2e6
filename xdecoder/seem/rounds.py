"""Rounds: a mask, a click on its largest mistake, a better mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder.seem.clicks import ClickRule, mark, next_click
from xdecoder.types import StrokeMaps

ENOUGH = 0.9  # IoU at which every object must have arrived for the rounds to end


@dataclass(frozen=True)
class Target:
    """Objects that somebody wants to have, at the size at which marks are made and at that of the score."""

    marked: Tensor  # (N, H, W) bool, at the size of the strokes
    scored: Tensor  # (N, h, w) bool, at the image's own size
    ignored: Tensor | None = None  # (h, w) bool: what does not count


def corrected(
    strokes: StrokeMaps,
    truth: Tensor,
    logits: Tensor,
    rule: ClickRule = "euclid",
    generators: Sequence[torch.Generator | None] | None = None,
) -> StrokeMaps:
    """The strokes with one more click for each object whose mask is not good enough.

    Args:
        truth: (N, H, W) bool, at the size of the strokes.
        logits: (N, h, w) of the masks, of any size.
        generators: for each object, what its click is drawn from: any mistaken pixel instead of the one that lies deepest.
    """
    size = (truth.shape[-2], truth.shape[-1])
    predicted = F.interpolate(logits[None].float(), size=size, mode="bilinear", align_corners=False)[0] > 0
    positive, negative = strokes.positive.clone(), strokes.negative.clone()
    for i, (wanted, found) in enumerate(zip(truth.cpu(), predicted.cpu(), strict=True)):
        clicked = (positive[i] | negative[i]).cpu()
        generator = generators[i] if generators else None
        click = next_click(wanted, found, clicked, rule, generator, anywhere=generators is not None)
        if click is not None:
            mark(positive[i] if click.positive else negative[i], click)
    return StrokeMaps(positive, negative)


def play(
    segment: Callable[[StrokeMaps], Tensor],
    restore: Callable[[Tensor], Tensor],
    first: StrokeMaps,
    target: Target,
    limit: int = 20,
    rule: ClickRule = "euclid",
) -> tuple[Tensor, int]:
    """Correct masks until all of them are good or `limit` clicks are made.

    Args:
        segment: mask logits (N, h, w) of strokes.
        restore: those logits as masks (N, H, W) bool at the image's own size.
        first: what is marked at first.

    Returns:
        IoU (N, limit) after each round, float64, the last one standing for rounds that were not needed; and the rounds played.
    """
    strokes, curve = first, []
    while True:
        logits = segment(strokes)
        curve.append(intersection_over_union(restore(logits), target.scored, target.ignored))
        if len(curve) == limit or bool((curve[-1] > ENOUGH).all()):
            break
        strokes = corrected(strokes, target.marked, logits, rule)
    return torch.stack(curve + [curve[-1]] * (limit - len(curve)), dim=1), len(curve)


def intersection_over_union(masks: Tensor, truth: Tensor, ignored: Tensor | None = None) -> Tensor:
    """(N,) float64 of masks (N, H, W) bool; of two empty ones it is 0."""
    counted = torch.ones_like(masks) if ignored is None else (~ignored).expand_as(masks)
    shared = (masks & truth & counted).flatten(1).sum(1)
    union = ((masks | truth) & counted).flatten(1).sum(1)
    return shared.double() / union.clamp(min=1)
