"""Captioning: the cross-entropy of each next word."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def next_word_loss(tokens: Tensor, word_embeddings: Tensor, ids: Tensor, present: Tensor) -> Tensor:
    """Sum of next-word cross-entropies over (number of words + 1).

    Args:
        tokens: (B, T, D) caption outputs; position t predicts word t + 1.
        word_embeddings: (V, D).
        ids: (B, T) token numbers from start to end.
        present: (B, T) bool, False on padding.
    """
    counted = present[:, 1:]
    logits = tokens[:, :-1][counted] @ word_embeddings.T
    return F.cross_entropy(logits.float(), ids[:, 1:][counted], reduction="sum") / (counted.sum() + 1)
