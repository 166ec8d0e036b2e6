"""Image–text contrast: whole pictures with whole captions, and queries with single words."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

MAX_SCALE = 100.0
Scalar = Float[Tensor, ""] | Float[Tensor, "1"]
"""A learnt scale; where parameters are sharded, numbers are vectors of one."""


def scale_of(logit_scale: Scalar) -> Scalar:
    """Factor on cosines: the exponential of the learnt scalar, at most 100 as in CLIP."""
    return logit_scale.exp().clamp(max=MAX_SCALE)


def cosine_logits(
    rows: Float[Tensor, "*batch N D"], texts: Float[Tensor, "*texts T D"], logit_scale: Scalar, clamp: bool = True
) -> Float[Tensor, "*batch N T"]:
    """Scaled cosines of rows (…, N, D) with texts (…, T, D): (…, N, T).

    clamp: whether the scale is at most 100; it is in all contrasts, and is not where a query is given a class.
    """
    cosines = F.normalize(rows.float(), dim=-1) @ F.normalize(texts.float(), dim=-1).transpose(-1, -2)
    return (scale_of(logit_scale) if clamp else logit_scale.exp()) * cosines


def symmetric_contrast(
    images: Float[Tensor, "B D"], texts: Float[Tensor, "B D"], logit_scale: Scalar, same: Bool[Tensor, "B B"]
) -> Float[Tensor, ""]:
    """Mean of image→text and text→image cross-entropy over a batch of pairs.

    Args:
        images, texts: (B, D), pair by pair.
        same: (B, B) bool: which texts say the same, so that none of them is a wrong answer.
    """
    logits = cosine_logits(images, texts, logit_scale)
    wanted = same.float() / same.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted)) / 2


def mean_direction(queries: Float[Tensor, "B Q D"]) -> Float[Tensor, "B D"]:
    """Mean of the unit vectors of (B, Q, D) queries: (B, D), whose product with a unit vector is the queries' mean cosine."""
    return F.normalize(queries.float(), dim=-1).mean(dim=1)


def word_contrast(
    directions: Float[Tensor, "B D"],
    words: Float[Tensor, "B T D"],
    present: Bool[Tensor, "B T"],
    logit_scale: Scalar,
    weigh_twice: bool = False,
) -> Float[Tensor, ""]:
    """Fine contrast: every query of a picture with every word of every caption of the batch.

    Words count in proportion to 1, 2, 3, … along their caption; 0.7 image→word plus 0.3 word→image.

    Args:
        directions: (B, D), the `mean_direction` of each picture's queries.
        words: (B, T, D).
        present: (B, T) bool.
        weigh_twice: divide the word→image part by the number of words, although a caption's weights sum to one already.
    """
    logits = scale_of(logit_scale) * directions @ F.normalize(words[present].float(), dim=-1).T  # (B, W): pictures by words
    caption = torch.arange(len(words), device=words.device)[:, None].expand_as(present)[present]
    ranks = present.cumsum(dim=1) * present
    weight = (ranks / ranks.sum(dim=1, keepdim=True))[present]  # sums to 1 over a caption
    own = caption[None] == torch.arange(len(words), device=words.device)[:, None]  # (B, W)
    to_words = -(logits.log_softmax(dim=1) * own * weight).sum(dim=1).mean()
    to_images = (F.cross_entropy(logits.T, caption, reduction="none") * weight).sum()
    to_images = to_images / (len(weight) if weigh_twice else len(words))
    return 0.7 * to_words + 0.3 * to_images
