"""A small network against the published computation written out here, step by step, with torch's own attention; always runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import xdecoder
from tests.tiny import tiny_batch, tiny_config
from xdecoder.layers import Attention
from xdecoder.model import Encoded, XDecoder
from xdecoder.published import checkpoints

HEADS = 8  # published files do not say how many; all published networks have eight


@pytest.fixture(scope="module")
def model() -> XDecoder:
    torch.manual_seed(0)
    settings = tiny_config()
    config = settings.model_copy(
        update={
            "published_quirks": True,
            "pixel_decoder": settings.pixel_decoder.model_copy(update={"heads": HEADS}),
            "decoder": settings.decoder.model_copy(update={"heads": HEADS}),
            "language": settings.language.model_copy(update={"heads": HEADS}),
        }
    )
    return XDecoder(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def features(model: XDecoder) -> Encoded:
    return model.encode(tiny_batch().images)


def attend(module: Attention, query: Tensor, key: Tensor, value: Tensor, blocked: Tensor) -> Tensor:
    """torch's multi-head attention with the module's weights; blocked: (B, N, M) or (N, M), True = may not be looked at."""
    theirs = torch.nn.MultiheadAttention(query.shape[-1], module.heads, batch_first=True).eval()
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = module.in_proj.weight, module.in_proj.bias
    theirs.out_proj.load_state_dict(module.out_proj.state_dict())
    if blocked.dim() == 3:
        blocked = blocked.repeat_interleave(module.heads, dim=0)
    return theirs(query, key, value, attn_mask=blocked, need_weights=False)[0].detach()


def sine(height: int, width: int, channels: int) -> Tensor:
    """Positions by their formula, one number at a time: (h·w, channels)."""
    table = torch.zeros(height, width, channels)
    half = channels // 2
    for y in range(height):
        for x in range(width):
            for part, (place, length) in enumerate(((y, height), (x, width))):
                angle = (place + 1) / (length + 1e-6) * 2 * torch.pi
                for i in range(half):
                    wave = torch.tensor(angle / 10_000 ** (2 * (i // 2) / half))
                    table[y, x, part * half + i] = wave.cos() if i % 2 else wave.sin()
    return table.flatten(0, 1)


def by_the_book(model: XDecoder, features: Encoded) -> list[tuple[Tensor, Tensor]]:
    """(semantic outputs, mask logits) of all queries before the first layer and after each."""
    decoder = model.decoder
    x = decoder.query_content.weight.expand(2, -1, -1)
    position = decoder.query_position.weight

    def heads(x: Tensor) -> tuple[Tensor, Tensor]:
        normed = decoder.heads.norm(x)
        objects, image = normed[:, :-1], normed[:, -1:]
        weights = torch.softmax(F.cosine_similarity(image, objects, dim=-1), dim=-1)
        normed = torch.cat((objects, (weights[..., None] * objects).sum(1, keepdim=True)), dim=1)
        masks = torch.einsum("bqc,bchw->bqhw", decoder.heads.mask(normed), features.mask)
        return normed @ decoder.heads.semantic, masks

    results = [heads(x)]
    alone = torch.zeros(x.shape[1], x.shape[1], dtype=torch.bool)
    alone[-1, :-1] = alone[:-1, -1] = True  # objects see objects, the image token sees itself
    for i, layer in enumerate(decoder.layers):
        level = features.maps[i % 3]
        values = (level + decoder.level_embedding.weight[i % 3][:, None, None]).flatten(2).transpose(1, 2)
        keys = values + sine(level.shape[2], level.shape[3], level.shape[1])
        small = F.interpolate(results[-1][1], size=level.shape[-2:], mode="bicubic", antialias=True)
        blocked = small.sigmoid().flatten(2) < 0.5
        blocked[blocked.all(-1)] = False
        x = layer.norm1(x + attend(layer.cross_attention, x + position, keys, values, blocked))
        x = layer.norm2(x + attend(layer.self_attention, x + position, x + position, x, alone))
        x = layer.norm3(x + layer.feed_forward.linear2(F.relu(layer.feed_forward.linear1(x))))
        results.append(heads(x))
    return results


def test_every_layer_by_the_book(model: XDecoder, features: Encoded) -> None:
    ours = model.decode(features)
    expected = by_the_book(model, features)
    assert len(ours) == len(expected) == 5
    for prediction, (semantic, masks) in zip(ours, expected, strict=True):
        rows = prediction.object_and_image
        assert torch.allclose(rows.semantic, semantic, atol=1e-5)
        assert torch.allclose(rows.masks(features.mask), masks, atol=1e-4)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_through_a_published_file_and_back(model: XDecoder, features: Encoded, tmp_path: Path, suffix: str) -> None:
    """Written under the published names, found again without being told the architecture, with the same numbers."""
    path = tmp_path / f"published{suffix}"
    checkpoints.save(model, path)
    loaded = xdecoder.load(path).model
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True))
    again = loaded.decode(loaded.encode(tiny_batch().images))[-1]
    assert torch.equal(again["object"].semantic, model.decode(features)[-1]["object"].semantic)
