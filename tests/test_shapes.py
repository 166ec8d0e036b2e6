"""Shapes that annotations promise are checked while tests run."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from xdecoder.decoder.attention import TokenGroup
from xdecoder.losses.contrastive import cosine_logits
from xdecoder.losses.matching import pairwise_dice
from xdecoder.postprocessing import semantic_map


def test_a_wrong_shape_is_found() -> None:
    with pytest.raises(TypeCheckError, match="pairwise_dice"):
        pairwise_dice(torch.zeros(2, 5), torch.zeros(3, 6))
    with pytest.raises(TypeCheckError, match="cosine_logits"):
        cosine_logits(torch.zeros(2, 5), torch.zeros(3, 6), torch.tensor(0.0))
    with pytest.raises(TypeCheckError, match="semantic_map"):
        semantic_map(torch.zeros(4, 3, 2), torch.zeros(4, 8, 8))
    with pytest.raises(TypeCheckError, match="TokenGroup"):
        TokenGroup("object", torch.zeros(1, 4, 8), torch.zeros(1, 5, 8))


def test_a_right_one_passes() -> None:
    assert pairwise_dice(torch.zeros(2, 5), torch.zeros(3, 5)).shape == (2, 3)
    assert semantic_map(torch.ones(4, 3), torch.zeros(4, 8, 8)).shape == (8, 8)
