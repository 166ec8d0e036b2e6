"""Segment Anything's transformer: its attention against the formula written out, the sizes of its maps, what it refuses."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder.backbones.sam import RelativeAttention, SamConfig
from xdecoder.config import ConfigError, parse


def tiny() -> SamConfig:
    return parse(SamConfig, {"name": "sam", "width": 32, "heads": 4, "depth": 2, "everywhere": [1], "window": 3, "side": 64})


def written_out(attention: RelativeAttention, x: Tensor) -> Tensor:
    """Pair by pair: the scaled product of query and key, plus the query's products with the offsets in row and column."""
    size, heads = attention.size, attention.heads
    query, key, value = attention.qkv(x[0].flatten(0, 1)).view(size * size, 3, heads, -1).unbind(1)
    mixed = torch.zeros_like(query)
    for head in range(heads):
        logits = torch.zeros(size * size, size * size)
        for i in range(size * size):
            for j in range(size * size):
                down, right = i // size - j // size, i % size - j % size
                offset = attention.row_offsets[down + size - 1] + attention.column_offsets[right + size - 1]
                logits[i, j] = query[i, head] @ (key[j, head] / query.shape[-1] ** 0.5 + offset)
        mixed[:, head] = logits.softmax(1) @ value[:, head]
    return attention.proj(mixed.flatten(1)).view(x.shape)


@torch.no_grad()
def test_relative_attention_is_the_formula() -> None:
    attention = RelativeAttention(16, 2, 4)
    for offsets in (attention.row_offsets, attention.column_offsets):
        offsets.normal_()
    x = torch.randn(1, 4, 4, 16)
    assert torch.allclose(attention(x), written_out(attention, x), atol=1e-5)


@torch.no_grad()
def test_windows_do_not_see_each_other_and_are_filled_up_with_zeros() -> None:
    """4 x 4 patches in windows of 3: the last window holds one patch and eight zeros."""
    block = tiny().build().blocks[0]
    x = torch.randn(1, 4, 4, 32)
    whole = block._attend(x)
    corner = F.pad(x[:, 3:, 3:], (0, 0, 0, 2, 0, 2))
    assert torch.allclose(whole[:, 3, 3], block.attention(corner)[:, 0, 0], atol=1e-6)
    x[:, 0, 0] += 1
    changed = (block._attend(x) - whole).abs().amax(dim=-1)[0] > 1e-6
    assert changed[:3, :3].all() and not changed[3:].any() and not changed[:, 3:].any()


def test_maps() -> None:
    network = tiny().build()
    maps = network(torch.randn(2, 3, 64, 64))
    assert [tuple(x.shape) for x in maps] == [(2, 128, 16, 16), (2, 256, 8, 8), (2, 512, 4, 4), (2, 1024, 2, 2)]
    sum(x.sum() for x in maps).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(("settings", "parameters"), [({}, 98_358_464), ("large", 323_333_504)])
def test_published_sizes(settings: dict | str, parameters: int) -> None:
    if settings == "large":
        settings = {"width": 1024, "heads": 16, "depth": 24, "everywhere": [5, 11, 17, 23]}
    with torch.device("meta"):
        network = parse(SamConfig, {"name": "sam", **settings}).build()
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_another_size_of_image() -> None:
    with pytest.raises(ValueError, match="reads images of 64 x 64 pixels, not 96 x 64; resize them"):
        tiny().build()(torch.zeros(1, 3, 64, 96))


@pytest.mark.parametrize(("settings", "sentence"), [({"side": 1000}, "multiple of 32"), ({"heads": 7}, "among 7 heads")])
def test_impossible_settings(settings: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse(SamConfig, {"name": "sam", **settings})
