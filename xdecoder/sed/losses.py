"""SED's loss: every class against all pixels, at the final head and at the auxiliary ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Ignored = Literal["negative", "left out"]
IGNORED = -1  # the label of pixels of no class


def pixel_loss(logits: Tensor, labels: Tensor, ignored: Ignored = "negative") -> Tensor:
    """Mean binary cross-entropy over images, classes and pixels.

    Args:
        logits: (B, T, h, w), resized to the labels' size.
        labels: (B, H, W) int64 numbers of classes; `IGNORED` where there is none.
        ignored: whether pixels of no class count as negatives of every class, as published, or not at all.
    """
    height, width = labels.shape[-2:]
    resized = F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
    known = labels != IGNORED
    targets = torch.zeros_like(resized).scatter_(1, labels.clamp(min=0)[:, None], known[:, None].to(resized.dtype))
    if ignored == "negative":
        return F.binary_cross_entropy_with_logits(resized, targets)
    each = F.binary_cross_entropy_with_logits(resized, targets, reduction="none")
    return (each * known[:, None]).sum() / (known.sum() * logits.shape[1]).clamp(min=1)


def losses(final: Tensor, auxiliary: Sequence[Tensor], labels: Tensor, ignored: Ignored = "negative") -> dict[str, Tensor]:
    """The published names and scalar values, all of weight 1.

    `loss_sem_seg_0` is the final head's, the others are auxiliary heads'.
    """
    return {f"loss_sem_seg_{i}": pixel_loss(logits, labels, ignored) for i, logits in enumerate((final, *auxiliary))}
