"""SED's loss: every class against all pixels, at the final head and at the auxiliary ones."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Ignored = Literal["negative", "left out"]
IGNORED = -1  # the label of pixels of no class


def pixel_loss(logits: Tensor, labels: Tensor, ignored: Ignored = "negative") -> Tensor:
    """Sum over classes and pixels of the binary cross-entropy of one image; the loss is its mean, see `terms`.

    Args:
        logits: (T, h, w), resized to the labels' size.
        labels: (H, W) int64 numbers of classes; `IGNORED` where there is none.
        ignored: whether pixels of no class count as negatives of every class, as published, or not at all.
    """
    resized = F.interpolate(logits[None].float(), size=labels.shape, mode="bilinear", align_corners=False)[0]
    known = labels != IGNORED
    targets = torch.zeros_like(resized).scatter_(0, labels.clamp(min=0)[None], known[None].to(resized.dtype))
    if ignored == "negative":
        return F.binary_cross_entropy_with_logits(resized, targets, reduction="sum")
    each = F.binary_cross_entropy_with_logits(resized, targets, reduction="none")
    return (each * known).sum()


def terms(labels: Tensor, classes: int, ignored: Ignored = "negative") -> int:
    """How many there are of what `pixel_loss` sums; labels: (H, W)."""
    pixels = labels.numel() if ignored == "negative" else int((labels != IGNORED).sum())
    return pixels * classes
