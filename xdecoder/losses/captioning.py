"""Captioning: the cross-entropy of each next word."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def next_word_loss(
    tokens: Float[Tensor, "*L B T D"],
    word_embeddings: Float[Tensor, "V D"],
    ids: Int[Tensor, "B T"],
    present: Bool[Tensor, "B T"],
    count: float | None = None,
) -> Float[Tensor, "*L"]:
    """Sum of next-word cross-entropies over (number of words + 1), for each of the leading dimensions (such as layers).

    Args:
        tokens: (…, B, T, D) caption outputs; position t predicts word t + 1.
        word_embeddings: (V, D).
        ids: (B, T) token numbers from start to end.
        present: (B, T) bool, False on padding.
        count: the number of words to divide by; by default those given.
    """
    counted = present[:, 1:]
    logits = tokens[..., :-1, :][..., counted, :] @ word_embeddings.T  # (…, W, V), all at once as the table is large
    wanted = ids[:, 1:][counted].expand(logits.shape[:-1])
    loss = F.cross_entropy(logits.float().flatten(0, -2), wanted.flatten(), reduction="none").view_as(wanted).sum(-1)
    return loss / ((counted.sum() if count is None else count) + 1)
