"""The shared transformer decoder: look at the image → look at each other → feed forward, once per layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from xdecoder.config import Config
from xdecoder.decoder.attention import (
    XDECODER,
    AttentionTable,
    TokenGroup,
    given_mask,
    own_mask,
    resize,
    self_attention_mask,
)
from xdecoder.decoder.cache import KeyValueCache, Level, Pair, TokenCache
from xdecoder.decoder.heads import Heads, Prediction, paint
from xdecoder.layers import Attention, FeedForward, initialise_transformer, sine_positions


class DecoderConfig(Config):
    """The shared decoder; the defaults are Focal-T's."""

    name: Literal["xdecoder"] = "xdecoder"
    queries: int = 101
    """Latent queries: objects, and as the last one the image token, if there is one."""
    layers: int = 9
    width: int = 512
    heads: int = 8
    hidden: int = 2048
    """Inner width of the feed-forward layers."""
    joint_width: int = 512
    """Size of the joint space of images and texts."""
    image_token: bool = True
    """Whether the last latent query stands for the whole image."""
    caption_length: int | None = 77
    """Longest caption in tokens; None = it neither reads nor writes captions."""
    maps: tuple[Literal[0, 1, 2], ...] = Field((0, 1, 2), min_length=1)
    """Which map the layers read, in turn: 0 has stride 32, 1 has 16, 2 has 8. Small images say little at stride 32."""
    words_learn: Literal["position", "content"] = "position"
    """By which of the two the text encoder learns from what is found for phrases (published: X-Decoder's, SEEM's content)."""
    attention: AttentionTable = XDECODER
    """Who may look at whom."""

    def build(self, published_quirks: bool = False) -> Decoder:
        return Decoder(self, self.attention.as_published() if published_quirks else self.attention)


class Decoder(nn.Module):
    """Latent queries and the tasks' tokens read three maps in turn, as `table` lets them (section 3.2 of the paper)."""

    def __init__(self, config: DecoderConfig, table: AttentionTable) -> None:
        super().__init__()
        self.table, self.maps, self.image_token = table, config.maps, config.image_token
        self.objects = config.queries - config.image_token  # queries that stand for objects
        width = config.width
        self.query_content = nn.Embedding(config.queries, width)
        self.query_position = nn.Embedding(config.queries, width)
        self.level_embedding = nn.Embedding(3, width)
        if config.caption_length is not None:
            self.caption_position = nn.Embedding(config.caption_length, width)
        self.layers = nn.ModuleList(DecoderLayer(width, config.heads, config.hidden) for _ in range(config.layers))
        self.heads = Heads(width, config.joint_width, captions=config.caption_length is not None)
        initialise_transformer(self.layers)

    def forward(
        self,
        mask_features: Tensor,
        maps: Sequence[Tensor],
        groups: Sequence[TokenGroup] = (),
        table: AttentionTable | None = None,
    ) -> Iterator[Prediction]:
        """Predictions of latent queries and groups before the first layer and after each one, made as they are asked for.

        Args:
            mask_features: (B, C, H/4, W/4).
            maps: three maps (B, C, h, w), coarse to fine; the layers read them in the order of `config.maps`.
            groups: tokens that the tasks bring.
            table: who may look at whom, if not as the decoder's own table says.
        """
        image = self.read(mask_features, maps, self.table.full_size_masks)
        groups = [replace(group, present=None) if group.name in self.table.padding_seen else group for group in groups]
        return self.run(image, (*self.latent_queries(mask_features.shape[0]), *groups), table=table)

    def run(
        self,
        image: KeyValueCache,
        groups: Sequence[TokenGroup],
        past: TokenCache | None = None,
        table: AttentionTable | None = None,
    ) -> Iterator[Prediction]:
        """The layer loop of training, prediction and captions alike: predictions before the first layer and after each one.

        Args:
            image: what the layers read of B images.
            groups: the tokens to be decoded, of B rows, or of B·R rows: then R sets of tokens ask about each image.
            past: tokens that were decoded before, at which the table may let these look; these are added to them.
            table: as for `forward`.

        Raises:
            AssertionError: for a group that the table does not know, or gets twice.
        """
        table = table or self.table
        groups = table.ordered(groups)
        living, fresh = [group for group in groups if not group.fresh], [group for group in groups if group.fresh]
        looking = [group for group in living if group.name in table.cross_attention]  # the table has these first
        lookers = sum(group.content.shape[1] for group in looking)
        dtype = self.query_content.weight.dtype  # texts come in full precision
        tokens = torch.cat([group.content for group in living], dim=1).to(dtype)
        position = torch.cat([group.position for group in living], dim=1).to(dtype)
        before = past.begin(groups) if past is not None else {}
        varies = any(group.varies for group in groups)
        visible = None if varies else self_attention_mask(table, living, past=before)
        prediction = self._predict(tokens, living)
        yield prediction
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, DecoderLayer)
            level = self.map_of(i)
            places = self.visible(prediction, [group.at(i, level) for group in looking], image.levels[i], table)
            seers = tokens[:, :lookers], position[:, :lookers]
            if image.keep:
                attended = layer.cross_attend_cached(*seers, image.projected(i), places)
            else:
                attended = layer.cross_attend(*seers, image.levels[i].keys, image.levels[i].values, places)
            tokens = torch.cat((attended, tokens[:, lookers:]), dim=1)
            others = [group.at(i, level) for group in fresh]
            if varies:
                visible = self_attention_mask(table, [group.at(i, level) for group in living], others, before)
            join = partial(past.join, i) if past is not None else None
            tokens = layer.self_attend(tokens, position, visible, _keys_and_values(others, dtype), join)
            prediction = self._predict(tokens, living)
            yield prediction

    def _predict(self, tokens: Tensor, groups: Sequence[TokenGroup]) -> Prediction:
        parts = tokens.split([group.content.shape[1] for group in groups], dim=1)
        return Prediction(self.heads, {group.name: part for group, part in zip(groups, parts, strict=True)})

    def latent_queries(self, batch: int) -> tuple[TokenGroup, ...]:
        """The object queries, and the image token if there is one, of each of `batch` images; every training step has them."""
        content, position = (x.weight.expand(batch, -1, -1) for x in (self.query_content, self.query_position))
        groups = (TokenGroup("object", content[:, : self.objects], position[:, : self.objects]),)
        return groups if not self.image_token else (*groups, TokenGroup("image", content[:, -1:], position[:, -1:]))

    def grounding_queries(self, batch: int) -> TokenGroup:
        """Copies of the object queries, (batch, m, C), to be sent along with phrases."""
        return replace(self.latent_queries(batch)[0], name="grounding")

    def map_of(self, layer: int) -> int:
        """Which of the three maps, coarse to fine, a layer reads."""
        return self.maps[layer % len(self.maps)]

    def read(
        self, mask_features: Tensor, maps: Sequence[Tensor], full_size_masks: bool = False, keep: bool = False
    ) -> KeyValueCache:
        """What the layers read of images.

        Resizing is linear, so a mask made of resized features is the resized mask: no layer needs a full-size one. Only the
        last bits differ; `full_size_masks` leaves features at their size, to be equal to the published network.

        Args:
            mask_features: (B, C, H/4, W/4).
            maps: three maps (B, C, h, w), coarse to fine.
            keep: remember each layer's keys and values.
        """
        if not full_size_masks:
            mask_features = mask_features.contiguous()  # what lies channels last is resized several times slower
        levels: dict[int, Level] = {}
        for i in sorted({self.map_of(layer) for layer in range(len(self.layers))}):
            x = maps[i]
            size = (x.shape[-2], x.shape[-1])
            values = x + self.level_embedding.weight[i][:, None, None]
            keys = values + sine_positions(*size, x.shape[1], x.device).to(x.dtype)
            with torch.no_grad():
                features = mask_features if full_size_masks else resize(mask_features, size, self.table.interpolation)
            # Once for all layers, each of which would copy a transposed view anew.
            keys, values = (x.flatten(2).transpose(1, 2).contiguous() for x in (keys, values))
            levels[i] = Level(keys, values, features, size)
        layers = [layer for layer in self.layers if isinstance(layer, DecoderLayer)]
        projections = [layer.cross_attention.project for layer in layers]
        return KeyValueCache([levels[self.map_of(i)] for i in range(len(layers))], projections, keep)

    def visible(
        self, prediction: Prediction, groups: Sequence[TokenGroup], level: Level, table: AttentionTable
    ) -> Tensor | None:
        """Where each of N looking tokens may look on a map, (B·R, N, h·w) bool; None if all may look everywhere."""
        looks = {group.name: table.cross_attention[group.name] for group in groups}
        if all(looks[group.name] == "everywhere" and group.mask is None for group in groups):
            return None
        # Computed here with gradient, since the losses will read the same outputs; what follows needs none.
        embeddings = {group.name: prediction[group.name].mask for group in groups if looks[group.name] == "own mask"}
        with torch.no_grad():
            return torch.cat([self._places(group, embeddings.get(group.name), level, table) for group in groups], dim=1)

    def _places(self, group: TokenGroup, embeddings: Tensor | None, level: Level, table: AttentionTable) -> Tensor:
        """Where each token of a group may look, (B·R, N, h·w) bool; embeddings: (B·R, N, C), if inside its own mask."""
        if embeddings is not None:
            masks = paint(embeddings, level.features)
            inside = own_mask(masks if masks.shape[-2:] == level.size else resize(masks, level.size, table.interpolation))
            if group.name in table.first_looks_everywhere:
                inside[:, 0] = True
            return inside
        if table.cross_attention[group.name] == "everywhere" and group.mask is None:
            return group.content.new_ones(*group.content.shape[:2], level.keys.shape[1], dtype=torch.bool)
        return given_mask(group, level.size, table)


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

    def cross_attend(self, tokens: Tensor, position: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None) -> Tensor:
        """Tokens (B, N, C) read the image's keys and values (B, h·w, C) where `visible` (B, N, h·w) lets them."""
        return self.cross_attend_cached(tokens, position, self.cross_attention.project(keys, values), visible)

    def cross_attend_cached(self, tokens: Tensor, position: Tensor, image: Pair, visible: Tensor | None) -> Tensor:
        """The same from the pair (B, heads, h·w, C / heads) that `cross_attention.project` made of the image before."""
        return self.norm1(tokens + self.cross_attention.read(tokens + position, *image, visible))

    def self_attend(
        self,
        tokens: Tensor,
        position: Tensor,
        visible: Tensor | None = None,
        others: Pair | None = None,
        join: Callable[[Tensor, Tensor], Pair] | None = None,
    ) -> Tensor:
        """Tokens read each other and go through the feed-forward.

        Args:
            tokens, position: (B, N, C).
            visible: (1 or B, N, P + N + M) bool; None = everything.
            others: what keys and values of M more tokens are made of, (B, M, C) each.
            join: puts the projected keys and values of P earlier tokens before these.
        """
        placed = tokens + position
        keys, values = (
            (placed, tokens) if others is None else (torch.cat(x, dim=1) for x in ((placed, others[0]), (tokens, others[1])))
        )
        pair = self.self_attention.project(keys, values)
        if join is not None:
            pair = join(*pair)
        tokens = self.norm2(tokens + self.self_attention.read(placed, *pair, visible))
        return self.norm3(tokens + self.feed_forward(tokens))


def _keys_and_values(groups: Sequence[TokenGroup], dtype: torch.dtype) -> Pair | None:
    """What keys and values of tokens that are only looked at are made of."""
    if not groups:
        return None
    content, position = (torch.cat(x, dim=1).to(dtype) for x in ([g.content for g in groups], [g.position for g in groups]))
    return content + position, content
