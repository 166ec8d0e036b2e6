"""Asking a picture many questions: what decoder layers read of it is projected once, and only what is asked for is computed.

Latent queries never see what tasks bring, and phrases never see latent queries (`xdecoder.decoder.attention`), so that each is
decoded alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder.decoder.attention import CROSS_ATTENTION, GROUPS, TokenGroup, self_attention_mask
from xdecoder.decoder.decoder import Decoder, DecoderLayer
from xdecoder.decoder.heads import QueryOutputs
from xdecoder.model import Features, XDecoder

Pair = tuple[Tensor, Tensor]  # projected keys and values, each (B, heads, M, C / heads)


class KeyValueCache:
    """Encoded pictures as the decoder's layers see them.

    Args:
        exact: make attention masks at full size, as the published network does; otherwise of resized features, which differ
            in the last bits and cost a fraction.
        keep: remember what each layer projected; worth its memory if more than one question is asked.
    """

    def __init__(self, model: XDecoder, features: Features, exact: bool = False, keep: bool = True) -> None:
        self.features = features
        self._map_of = model.decoder.map_of
        self._layers = [layer for layer in model.decoder.layers if isinstance(layer, DecoderLayer)]
        self._levels = model.decoder.levels(features.mask, features.maps, exact)
        self._projected: dict[int, Pair] = {}
        self._keep = keep

    def __len__(self) -> int:
        return len(self.features.mask)

    def size(self, layer: int) -> tuple[int, int]:
        """Height and width of the map that the layer reads."""
        x = self.features.maps[self._map_of(layer)]
        return x.shape[-2], x.shape[-1]

    def painted_on(self, layer: int) -> Tensor:
        """What the layer's attention masks are made of, (B, C, h, w)."""
        return self._levels[self._map_of(layer)][2]

    def seen(self, layer: int) -> Pair:
        """What the layer reads of the pictures."""
        if layer in self._projected:
            return self._projected[layer]
        keys, values, _ = self._levels[self._map_of(layer)]
        pair = self._layers[layer].cross_attention.project(keys, values)
        if self._keep:
            # Head by head, a token reads them in half the time.
            pair = self._projected[layer] = pair[0].contiguous(), pair[1].contiguous()
        return pair


@dataclass(frozen=True)
class Decoded:
    """Tokens after the last layer, and what others may hear of them on the way."""

    content: dict[str, Tensor]  # by group, (B, N, C)
    keys_values: tuple[Pair, ...]  # per layer, keys and values of its self-attention


def decode_group(decoder: Decoder, memory: KeyValueCache, groups: Sequence[TokenGroup]) -> Decoded:
    """Decode token groups by themselves, such as the latent queries or phrases. Absent tokens are seen by nobody.

    Args:
        groups: of R·B rows where the memory holds B pictures; R sets of tokens then ask about each picture.
    """
    tokens = {group.name: group for group in groups}
    names = [name for name in GROUPS if name in tokens]
    cross_attending = [name for name in names if name in CROSS_ATTENTION]
    content = {name: tokens[name].content for name in names}
    kind = memory.features.mask.dtype  # texts come in full precision
    position = torch.cat([tokens[name].position for name in names], dim=1).to(kind)
    sizes = {name: content[name].shape[1] for name in names}
    cross_attending_count = sum(sizes[name] for name in cross_attending)  # GROUPS lists those that look first
    present = {name: group.present for name, group in tokens.items() if group.present is not None}
    seen = self_attention_mask(sizes, present, position.device)
    together = torch.cat([content[name] for name in names], dim=1).to(kind)
    keys_values = []
    for i, layer in enumerate(decoder.layers):
        assert isinstance(layer, DecoderLayer)
        parts = dict(zip(names, together.split(list(sizes.values()), dim=1), strict=True))
        mask_embeddings = {name: decoder.heads.mask(tokens) for name, tokens in decoder.heads.normed(parts).items()}
        visible = decoder.visible(
            mask_embeddings, [tokens[name] for name in cross_attending], memory.painted_on(i), memory.size(i)
        )
        attended = layer.cross_attend_cached(
            together[:, :cross_attending_count], position[:, :cross_attending_count], memory.seen(i), visible
        )
        together = torch.cat((attended, together[:, cross_attending_count:]), dim=1)
        placed = together + position
        keys_values.append(layer.self_attention.project(placed, together))
        together = layer.take_in(together, layer.self_attention.read(placed, *keys_values[-1], seen))
    return Decoded(dict(zip(names, together.split(list(sizes.values()), dim=1), strict=True)), tuple(keys_values))


def decode_causal(decoder: Decoder, memory: KeyValueCache, latents: Decoded, group: TokenGroup) -> Tensor:
    """Decode tokens as a caption's: each hears the latent queries, itself and those before it. Content (B, N, C), normed."""
    tokens, position, count = group.content, group.position, group.content.shape[1]
    earlier = torch.ones(count, count, dtype=torch.bool, device=tokens.device).tril()
    for i, (layer, (keys, values)) in enumerate(zip(decoder.layers, latents.keys_values, strict=True)):
        assert isinstance(layer, DecoderLayer)
        tokens = layer.cross_attend_cached(tokens, position, memory.seen(i), None)
        placed = tokens + position
        own_keys, own_values = layer.self_attention.project(placed, tokens)
        visible = F.pad(earlier, (keys.shape[2], 0), value=True)[None]
        keys_values = layer.self_attention.read(
            placed, torch.cat((keys, own_keys), dim=2), torch.cat((values, own_values), dim=2), visible
        )
        tokens = layer.take_in(tokens, keys_values)
    return decoder.heads.normed({"caption": tokens})["caption"]


def latents(model: XDecoder, memory: KeyValueCache) -> Decoded:
    """The latent queries: all that segmentation, captions and retrieval read."""
    return decode_group(model.decoder, memory, model.decoder.latent_queries(len(memory)))


def latent_outputs(decoder: Decoder, decoded: Decoded) -> QueryOutputs:
    """Meanings and mask embeddings of objects and, last, the image token."""
    normed = decoder.heads.normed(decoded.content)
    return decoder.heads.rows(torch.cat((normed["object"], normed["image"]), dim=1))
