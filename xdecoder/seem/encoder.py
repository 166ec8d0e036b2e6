"""From strokes to tokens, and from the decoder's queries to masks of what is marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from xdecoder.config import Config
from xdecoder.decoder.attention import TokenGroup
from xdecoder.decoder.decoder import Decoder
from xdecoder.decoder.heads import Prediction, QueryOutputs
from xdecoder.encoded import Encoded
from xdecoder.layers import sine_positions
from xdecoder.seem.draws import Draws
from xdecoder.types import StrokeMaps

EMPTY = -1.0  # every entry of the vector of an object on which nothing is marked


class StrokesConfig(Config):
    """How marked pixels become tokens."""

    queries: int | Literal["all", "object"] = 3
    """What looks for a marked object: so many copies of object queries drawn at random; "all" = one copy of each; "object" =
    the object queries themselves. With the latter two, objects are decoded as if each were alone on the image."""
    memory: int = 32
    """Tokens that read what the mask of the round before covers."""
    points: int = 512
    """Marked pixels of one image, of either sign, that are looked at."""
    positions: bool = False
    """Whether tokens say where their pixels lie, beside what is seen there (published: no)."""


@dataclass(frozen=True)
class Marked:
    """What strokes on B images bring to the decoder: R sets of tokens for each image, and what is looked for."""

    groups: tuple[TokenGroup, ...]  # of B·R rows
    positive: Tensor  # (B·R, N, C) mean mask features of what is marked as each object's
    negative: Tensor  # (B·R, N, C) and of what is not
    objects: tuple[int, ...]  # how many there are on each image
    alone: bool  # whether each is on its own: R = max(objects), N = 1
    looking: str  # group that looks for them
    queries: int  # of that group, for each object

    @property
    def owner(self) -> Tensor:
        """Object of each of the queries that look, (Q,)."""
        return torch.arange(self.positive.shape[1], device=self.positive.device).repeat_interleave(self.queries)

    def as_example(self) -> Marked:
        """The same, to be looked for on another image."""
        (stroke,) = (group for group in self.groups if group.name == "stroke")
        example = replace(stroke, name="example", fresh=tuple(replace(level, name="example") for level in stroke.fresh))
        groups = (*(group for group in self.groups if group.name not in ("stroke", "memory")), example)
        return replace(self, groups=groups)


class StrokeEncoder(nn.Module):
    """Asks the decoder for what is marked: pixels become tokens, and of an object's queries the one most like them answers.

    Args:
        width: size C of decoder tokens.
    """

    def __init__(self, config: StrokesConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.projections = nn.ParameterList(nn.Parameter(torch.empty(width, width)) for _ in range(3))
        self.sign = nn.Embedding(2, width)
        self.memory_content = nn.Embedding(config.memory, width)
        self.memory_position = nn.Embedding(config.memory, width)
        for projection in self.projections:
            nn.init.trunc_normal_(projection, std=width**-0.5)

    def mark(
        self,
        encoded: Encoded,
        strokes: Sequence[StrokeMaps],
        previous: Sequence[Tensor] | None,
        draws: Draws,
        learning: bool = False,
    ) -> Marked:
        """What strokes bring to the decoder.

        Args:
            encoded: B images.
            strokes: what is marked on each, (N, H, W).
            previous: for each image the mask logits (N, h, w) of the round before, of its first objects; None = there was none.
            draws: what is left to chance.
            learning: bring a memory also where there is none, so that all parameters take part in every step; nobody sees it.
        """
        counts = tuple(len(maps) for maps in strokes)
        alone = self.config.queries in ("all", "object")
        images = list(range(len(encoded)))  # what each row of tokens is about
        if alone:
            # As if each object had the image to itself; images with fewer objects look for nothing a few times.
            strokes = [maps.of(i) for maps in strokes for i in range(max(counts))]
            images = [image for image in images for _ in range(max(counts))]
        positive, negative = self.means(images, [encoded.mask[image] for image in images], strokes, draws)
        groups = self._looking(encoded, len(strokes), positive.shape[1], draws)
        looking, queries = ("spatial", groups[0].content.shape[1] // positive.shape[1]) if groups else ("object", 0)
        groups.append(self._tokens(encoded, images, strokes, draws))
        if (previous is not None or learning) and "memory" in encoded.decoder.table.cross_attention:
            masks = previous or [encoded.mask.new_zeros(count, *encoded.mask.shape[-2:]) for count in counts]
            memory = self._memory(len(encoded.decoder.layers), masks, counts, alone, draws)
            absent = torch.zeros(memory.content.shape[:2], dtype=torch.bool, device=encoded.mask.device)
            groups.append(memory if previous is not None else replace(memory, present=absent))
        return Marked(tuple(groups), positive, negative, counts, alone, looking, queries or encoded.decoder.objects)

    def similarity(self, marked: Marked, outputs: QueryOutputs) -> Tensor:
        """How alike the queries of each object and what is marked of it are: (B·R, N, queries), a dot product."""
        own = outputs.mask.unflatten(1, (-1, marked.queries))
        return torch.einsum("bnqc,bnc->bnq", own, marked.positive.to(own.dtype))

    def chosen(self, encoded: Encoded, marked: Marked, prediction: Prediction) -> list[Tensor]:
        """For each image the mask logits (N, h, w) of its objects: those of the query that is most alike."""
        outputs = prediction[marked.looking]
        best = self.similarity(marked, outputs).argmax(dim=-1)  # (B·R, N)
        own = outputs.mask.unflatten(1, (-1, marked.queries))
        embeddings = own.gather(2, best[..., None, None].expand(-1, -1, 1, own.shape[-1]))[:, :, 0]
        if marked.alone:
            embeddings = embeddings.reshape(len(encoded), -1, embeddings.shape[-1])
        return [torch.einsum("nc,chw->nhw", embeddings[b, :count], encoded.mask[b]) for b, count in enumerate(marked.objects)]

    def segment(
        self,
        encoded: Encoded,
        strokes: Sequence[StrokeMaps],
        previous: Sequence[Tensor] | None,
        draws: Draws,
        words: TokenGroup | None = None,
    ) -> list[Tensor]:
        """Mask logits (N, h, w) of the marked objects of each image; other queries would change nothing and are not decoded.

        Args:
            words: of one phrase (1, T, C) that says of all objects what they are; see `hears`.
        """
        marked = self.mark(encoded, strokes, previous, draws)
        return self.chosen(encoded, marked, self.ask(encoded, marked, words))

    def ask(self, encoded: Encoded, marked: Marked, words: TokenGroup | None = None) -> Prediction:
        """What the queries say that look for what is marked, on these images or as an example on others."""
        groups, rows = marked.groups, len(marked.positive)
        if marked.looking == "object":
            groups = (encoded.decoder.latent_queries(rows)[0], *groups)
        if words is not None:
            content, position = (x.expand(rows, -1, -1) for x in (words.content, words.position))
            groups = (*groups, TokenGroup("word", content, position))
        return encoded.ask(*groups)

    def find(self, encoded: Encoded, example: Marked) -> tuple[Tensor, Tensor]:
        """What was marked on another image, on this one: mask logits (N, h, w), and how alike they are, cosines (N,)."""
        prediction = self.ask(encoded, example)
        (logits,) = self.chosen(encoded, example, prediction)
        embeddings = prediction[example.looking].mask.unflatten(1, (-1, example.queries)).float()
        cosines = torch.einsum("bnqc,bnc->bnq", F.normalize(embeddings, dim=-1), F.normalize(example.positive.float(), dim=-1))
        best = self.similarity(example, prediction[example.looking]).argmax(dim=-1, keepdim=True)
        return logits, cosines.gather(-1, best).flatten()

    def hears(self, decoder: Decoder) -> bool:
        """Whether a phrase changes what is found for strokes."""
        looking = "object" if self.config.queries == "object" else "spatial"
        return "word" in decoder.table.self_attention.get(looking, {})

    def _looking(self, encoded: Encoded, rows: int, objects: int, draws: Draws) -> list[TokenGroup]:
        """The copies of object queries that look for marked objects; none if the object queries themselves do."""
        kind = self.config.queries
        if kind == "object":
            return []
        queries = encoded.decoder.latent_queries(rows)[0]
        owner = torch.zeros(rows, queries.content.shape[1], dtype=torch.int64, device=encoded.mask.device)
        content, position = queries.content, queries.position
        if kind != "all":
            chosen = draws.queries(kind * objects, encoded.decoder.objects).to(encoded.mask.device)
            content, position = content[:, chosen], position[:, chosen]
            owner = torch.arange(objects, device=encoded.mask.device).repeat_interleave(kind).expand(rows, -1)
        return [TokenGroup("spatial", content, position, owner=owner)]

    def _tokens(self, encoded: Encoded, images: Sequence[int], strokes: Sequence[StrokeMaps], draws: Draws) -> TokenGroup:
        """Marked pixels as each of the three maps shows them."""
        levels = []
        for level, x in enumerate(encoded.maps):
            shown = x + encoded.decoder.level_embedding.weight[level][:, None, None]
            if self.config.positions:
                shown = shown + sine_positions(x.shape[-2], x.shape[-1], x.shape[1], x.device).to(x.dtype)
            values = [shown[image] for image in images]
            tokens, owner = self.tokens(level, images, values, strokes, draws)
            levels.append(TokenGroup("stroke", tokens, tokens.detach(), present=owner >= 0, owner=owner))
        return replace(levels[0], fresh=tuple(levels))

    def _memory(self, layers: int, previous: Sequence[Tensor], counts: Sequence[int], alone: bool, draws: Draws) -> TokenGroup:
        """Memory tokens, which belong to other objects in every layer."""
        rows = max(counts)
        # A mask that is not there yet covers everything.
        whole = [torch.cat((masks, masks.new_zeros(rows - len(masks), *masks.shape[1:]))) for masks in previous]
        masks = torch.cat(whole)[:, None] if alone else torch.stack(whole)
        embeddings = self.memory_content, self.memory_position
        content, position = (embedding.weight.expand(len(masks), -1, -1) for embedding in embeddings)
        if alone:
            owner = torch.zeros(content.shape[:2], dtype=torch.int64, device=masks.device)
        else:
            owner = torch.stack([draws.memory(content.shape[1], counts) for _ in range(layers)]).to(masks.device)
        return TokenGroup("memory", content, position, owner=owner, mask=masks)

    def means(
        self, images: Sequence[int], mask_features: Sequence[Tensor], strokes: Sequence[StrokeMaps], draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """Mean mask features of the positive and of the negative pixels of each object, each (rows, N, C).

        Args:
            images: which image each row is about.
            mask_features: per row (C, h, w).
            strokes: per row.

        Returns:
            `EMPTY` for an object without such pixels and for rows that have fewer than N objects.
        """
        found: tuple[list[Tensor], list[Tensor]] = ([], [])
        for image, features, maps in zip(images, mask_features, strokes, strict=True):
            for means, marked in zip(found, (maps.positive, maps.negative), strict=True):
                places, owner = self._points(image, marked, draws)
                means.append(_mean_by_owner(look_up(features, places), owner, len(maps)))
        positive, negative = (pad_sequence(means, batch_first=True, padding_value=EMPTY) for means in found)
        return positive, negative

    def tokens(
        self, level: int, images: Sequence[int], values: Sequence[Tensor], strokes: Sequence[StrokeMaps], draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """Tokens (rows, T, C) of the positive, then of the negative pixels, and the object (rows, T) of each; -1 is padding.

        Args:
            level: which map, 0 = the coarsest.
            images: which image each row is about.
            values: per row (C, h, w), that map as the decoder reads it, without positions.
            strokes: per row.
        """
        tokens, owners = [], []
        for image, features, maps in zip(images, values, strokes, strict=True):
            points = [self._points(image, marked, draws) for marked in (maps.positive, maps.negative)]
            signs = [self.sign.weight[sign].expand(len(owner), -1) for sign, (_, owner) in enumerate(points)]
            places, owner = (torch.cat(x) for x in zip(*points, strict=True))
            tokens.append(look_up(features, places) @ self.projections[level] + torch.cat(signs))
            owners.append(owner)
        return pad_sequence(tokens, batch_first=True), pad_sequence(owners, batch_first=True, padding_value=-1)

    def _points(self, image: int, marked: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Places (P, 2), (y, x) in 0…1, and objects (P,) of the marked pixels that are looked at."""
        owner, *place = marked.nonzero().unbind(1)
        places = torch.stack(place, dim=1) / torch.tensor(marked.shape[-2:], device=marked.device)
        if len(owner) > self.config.points:
            chosen = draws.points(image, owner, self.config.points).to(marked.device)
            owner, places = owner[chosen], places[chosen]
        return places, owner


def look_up(features: Tensor, places: Tensor) -> Tensor:
    """Bilinear values (P, C) of a map (C, h, w) at places (P, 2), (y, x) in 0…1.

    0 is the centre of the first pixel and 1 that of the last one; published weights were trained so.
    """
    grid = (2 * places.flip(-1) - 1)[None, None].to(features.dtype)
    return F.grid_sample(features[None], grid, align_corners=True)[0, :, 0].T


def _mean_by_owner(values: Tensor, owner: Tensor, objects: int) -> Tensor:
    """Mean over the points of each object, (N, C); values: (P, C)."""
    counts = owner.bincount(minlength=objects)[:, None]
    sums = values.new_zeros(objects, values.shape[1]).index_add(0, owner, values)
    return torch.where(counts > 0, sums / counts.clamp(min=1), EMPTY)
