"""X-Decoder's transformer: look at the picture → look at each other → feed forward, once per layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from xdecoder.config import Config
from xdecoder.decoder.attention import CROSS_ATTENTION, GROUPS, TokenGroup, everywhere, names_of, own_mask, self_attention_mask
from xdecoder.decoder.heads import Heads, Prediction, paint
from xdecoder.layers import Attention, FeedForward, initialise_transformer, sine_positions


class DecoderConfig(Config):
    """The shared decoder; the defaults are Focal-T's."""

    name: Literal["xdecoder"] = "xdecoder"
    queries: int = 101
    """Latent queries: objects, and as the last one the image token."""
    layers: int = 9
    width: int = 512
    heads: int = 8
    hidden: int = 2048
    """Inner width of the feed-forward layers."""
    joint_width: int = 512
    """Size of the joint space of pictures and texts."""
    caption_length: int = 77
    """Longest caption in tokens."""
    maps: tuple[Literal[0, 1, 2], ...] = Field((0, 1, 2), min_length=1)
    """Which map the layers read, in turn: 0 has stride 32, 1 has 16, 2 has 8. Small pictures say little at stride 32."""

    def build(self, published_quirks: bool = False) -> Decoder:
        return Decoder(self, published_quirks)


class Decoder(nn.Module):
    """Latent queries and the tasks' tokens read three maps in turn (section 3.2 of the paper).

    With `published_quirks` it computes as the published network does: the first grounding query looks everywhere, padding
    among the phrases' words is seen like any word, and attention masks are made at full size before they are resized.
    """

    def __init__(self, config: DecoderConfig, published_quirks: bool = False) -> None:
        super().__init__()
        self.published_quirks, self.maps = published_quirks, config.maps
        width = config.width
        self.query_content = nn.Embedding(config.queries, width)
        self.query_position = nn.Embedding(config.queries, width)
        self.level_embedding = nn.Embedding(3, width)
        self.caption_position = nn.Embedding(config.caption_length, width)
        self.layers = nn.ModuleList(DecoderLayer(width, config.heads, config.hidden) for _ in range(config.layers))
        self.heads = Heads(width, config.joint_width)
        initialise_transformer(self.layers)

    def grounding_queries(self, batch: int) -> TokenGroup:
        """Copies of the object queries, to be sent along with phrases."""
        content, position = self.query_content.weight[:-1], self.query_position.weight[:-1]
        return TokenGroup("grounding", content.expand(batch, -1, -1), position.expand(batch, -1, -1))

    def forward(self, mask_features: Tensor, maps: Sequence[Tensor], groups: Sequence[TokenGroup] = ()) -> Iterator[Prediction]:
        """Predictions before the first layer and after each one, made as they are asked for.

        Args:
            mask_features: (B, C, H/4, W/4).
            maps: three maps (B, C, h, w), coarse to fine; the layers read them in the order of `config.maps`.
            groups: tokens that the tasks bring.
        """
        batch = mask_features.shape[0]
        tokens = {group.name: group for group in (*self.latent_queries(batch), *groups)}
        names = [name for name in GROUPS if name in names_of(list(tokens.values()))]
        cross_attending = [name for name in names if name in CROSS_ATTENTION]
        content = {name: tokens[name].content for name in names}
        position = {name: tokens[name].position for name in names}
        sizes = {name: content[name].shape[1] for name in names}
        present = {name: group.present for name, group in tokens.items() if group.present is not None}
        if self.published_quirks:
            present.pop("word", None)  # the weights learnt among unmasked zero vectors behind a batch's shorter phrases
        seen = self_attention_mask(sizes, present, mask_features.device)
        levels = self.levels(mask_features, maps, exact=self.published_quirks)

        prediction = self.heads(content)
        yield prediction
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, DecoderLayer)
            keys, values, features = levels[self.map_of(i)]
            size = (maps[self.map_of(i)].shape[-2], maps[self.map_of(i)].shape[-1])
            visible = self.visible(prediction.mask_embeddings(), [tokens[name] for name in cross_attending], features, size)
            attended = layer.cross_attend(
                torch.cat([content[name] for name in cross_attending], dim=1),
                torch.cat([position[name] for name in cross_attending], dim=1),
                keys,
                values,
                visible,
            )
            content |= _split(attended, cross_attending, sizes)
            mixed = layer.self_attend(
                torch.cat([content[name] for name in names], dim=1),
                torch.cat([position[name] for name in names], dim=1),
                seen,
            )
            content = _split(mixed, names, sizes)
            prediction = self.heads(content)
            yield prediction

    def latent_queries(self, batch: int) -> tuple[TokenGroup, TokenGroup]:
        """The object queries and the image token, which take part in every training step."""
        content = self.query_content.weight.expand(batch, -1, -1)
        position = self.query_position.weight.expand(batch, -1, -1)
        return (
            TokenGroup("object", content[:, :-1], position[:, :-1]),
            TokenGroup("image", content[:, -1:], position[:, -1:]),
        )

    def map_of(self, layer: int) -> int:
        """Which of the three maps, coarse to fine, a layer reads."""
        return self.maps[layer % len(self.maps)]

    def levels(
        self, mask_features: Tensor, maps: Sequence[Tensor], exact: bool = False
    ) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
        """Per map that is read: keys and values (B, h·w, C), and mask features (B, C, h, w) to make attention masks of.

        Resizing is linear, so a mask made of resized features is the resized mask: no layer needs a full-size one. Only the
        last bits differ, which turn a pixel on the rim of a mask now and then; to be equal to the published network, whose
        masks are resized, `exact` leaves features at their size.
        """
        levels: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        if not exact:
            mask_features = mask_features.contiguous()  # what lies channels last is resized several times slower
        for i in sorted({self.map_of(layer) for layer in range(len(self.layers))}):
            x = maps[i]
            size = x.shape[-2:]
            values = x + self.level_embedding.weight[i][:, None, None]
            keys = values + sine_positions(size[0], size[1], x.shape[1], x.device).to(x.dtype)
            with torch.no_grad():
                features = mask_features if exact else _resize(mask_features, size)
            # Once for all layers, each of which would copy a transposed view anew.
            keys, values = (x.flatten(2).transpose(1, 2).contiguous() for x in (keys, values))
            levels[i] = keys, values, features
        return levels

    @torch.no_grad()
    def visible(
        self,
        mask_embeddings: Mapping[str, Tensor],
        cross_attending: Sequence[TokenGroup],
        features: Tensor,
        size: tuple[int, int],
    ) -> Tensor:
        """Where each looking token may look on a map of `size`, (B, N, h·w) bool.

        painters: mask embeddings (B, N, C) of the groups that look inside their own mask; features: what masks are made of.
        """
        visible = []
        for group in cross_attending:
            rows = group.content.shape[1]
            if CROSS_ATTENTION[group.name] == "own mask":
                masks = paint(mask_embeddings[group.name], features)
                places = own_mask(masks if masks.shape[-2:] == size else _resize(masks, size))
                if self.published_quirks and group.name == "grounding":
                    # The published line that meant to open the image token's row opens the one behind it.
                    places[:, 0] = True
            elif group.region is not None:
                places = everywhere(rows, size, group.region)
            else:
                places = features.new_ones(len(features), rows, size[0] * size[1], dtype=torch.bool)
            visible.append(places)
        return torch.cat(visible, dim=1)


class DecoderLayer(nn.Module):
    """Masked cross-attention, self-attention, feed-forward; each normed after its residual."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.cross_attention = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.self_attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden)
        self.norm3 = nn.LayerNorm(width)

    def cross_attend(self, tokens: Tensor, position: Tensor, keys: Tensor, values: Tensor, visible: Tensor) -> Tensor:
        """Tokens (B, N, C) read the picture where `visible` (B, N, h·w) lets them."""
        return self.cross_attend_cached(tokens, position, self.cross_attention.project(keys, values), visible)

    def cross_attend_cached(
        self, tokens: Tensor, position: Tensor, seen: tuple[Tensor, Tensor], visible: Tensor | None
    ) -> Tensor:
        """The same from what `cross_attention.project` made of the picture before."""
        return self.norm1(tokens + self.cross_attention.read(tokens + position, *seen, visible))

    def self_attend(self, tokens: Tensor, position: Tensor, visible: Tensor) -> Tensor:
        """Tokens read each other where `peers` (1 or B, N, N) lets them, then think it over."""
        placed = tokens + position
        return self.take_in(tokens, self.self_attention(placed, placed, tokens, visible))

    def take_in(self, tokens: Tensor, keys_values: Tensor) -> Tensor:
        """Tokens take in what they heard of each other and go through the feed-forward."""
        tokens = self.norm2(tokens + keys_values)
        return self.norm3(tokens + self.feed_forward(tokens))


def _resize(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(maps.float(), size=size, mode="bicubic", antialias=True).to(maps.dtype)


def _split(tokens: Tensor, names: Sequence[str], sizes: dict[str, int]) -> dict[str, Tensor]:
    return dict(zip(names, tokens.split([sizes[name] for name in names], dim=1), strict=True))
