"""The decoder when no gradient is asked for: a few classes at a time, with early rejection.

Only the class attention needs all classes, and being linear it needs of them no more than sums. So classes pass through the
convolutions in chunks, whose intermediate maps stay in the processor's cache; what is handed from stage to stage is kept while
it is small, and beyond that computed again. Three more things save work and change rounding only: the encoder's skip features
are the same for all classes, hence convolved once; the transposed convolution and the convolution behind it are one linear
map; and the first rejection needs no embedding (`xdecoder.sed.rejection`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xdecoder.sed.decoder import EPSILON, STAGES, ClassAttention, Decoder, Stage, positive
from xdecoder.sed.rejection import first_scores, survivors

CHUNK = 16  # classes at a time
ROOM = (
    5 << 28
)  # bytes that the classes' maps of one stage may take together: 1.25 GiB, enough for some 1100 classes of 768 × 768
_TOKENS = 4096  # rows of an MLP at a time
_VALUES = 5 << 19  # numbers of a stage's result that are made at a time


@dataclass(frozen=True)
class Decoded:
    """What is known of the classes of one picture."""

    logits: Tensor  # (A, 8h, 8w) of the classes that were never rejected
    alive: Tensor  # (A,) int64, their numbers, ascending
    history: tuple[Tensor, ...]  # numbers of those alive after each of the three decisions; () where none was made

    def probabilities(self, classes: int) -> Tensor:
        """(T, 8h, 8w); 0 for rejected classes."""
        every = self.logits.new_zeros(classes, *self.logits.shape[1:])
        every[self.alive] = self.logits.sigmoid()
        return every


@torch.no_grad()
def decode(
    decoder: Decoder, dense: Tensor, text: Tensor, maps: Sequence[Tensor], keep: int | None = None, room: int = ROOM
) -> list[Decoded]:
    """Logits of each picture of a batch; tensors as of `Decoder.forward`.

    Args:
        decoder: in evaluation mode.
        dense: (B, C, h, w).
        text: (T, P, C).
        maps: of strides 16, 8 and 4.
        keep: classes that are nowhere among this many best are rejected, for each picture alone; None: none is.
        room: bytes that may be kept for one stage; more classes than that take more time rather than more memory.
    """
    assert not decoder.training
    unit = F.normalize(dense, dim=1)
    chooser = None if keep is None else lambda scores, _: survivors(scores, keep)
    return [Picture(decoder, unit[i], text, [x[i : i + 1] for x in maps], room).decode(chooser) for i in range(len(unit))]


class Picture:
    """One picture's decoding.

    Args:
        decoder: whose weights these are.
        unit: (C, h, w) features of length one.
        text: (T, P, C) unit vectors.
        maps: the encoder's, as a batch of one.
        room: as of `decode`.
    """

    def __init__(self, decoder: Decoder, unit: Tensor, text: Tensor, maps: Sequence[Tensor], room: int) -> None:
        self.decoder, self.unit, self.text, self.room = decoder, unit, text, room
        self.stages = [
            _FusedStage(stage, skip, pooling)
            for stage, skip, pooling in zip(decoder.stages, decoder.skips(maps), decoder.pooling, strict=True)
            if isinstance(stage, Stage)
        ]
        self.alive = torch.arange(len(text), device=unit.device)
        # What is kept of all classes that are alive, by stage: maps in front of it, and behind its spatial block.
        self.before: dict[int, Tensor] = {}
        self.embedded: dict[int, Tensor] = {}

    def decode(self, choose: Callable[[Tensor, int], Tensor] | None = None) -> Decoded:
        """choose: says of scores (A, h, w) at a stage which classes (A,) bool go on; None: all do, and no scores are made."""
        history = []
        for level in range(STAGES):
            if choose is not None:
                self._keep_only(choose(self._scores(level), level))
                history.append(self.alive)
            self._embed_all(level)
        head = self.decoder.head
        logits = torch.cat([head(x)[:, 0] for rows in self._chunks() for x in self._fused(STAGES - 1, rows)])
        return Decoded(logits, self.alive, tuple(history))

    def _chunks(self) -> Iterator[slice]:
        """Rows of the classes that are alive."""
        return _parts(0, len(self.alive), CHUNK)

    def _scores(self, level: int) -> Tensor:
        """The auxiliary head's logits of all that are alive; keeps what they are made of where there is room."""
        head = self.decoder.auxiliary_heads[level]
        assert isinstance(head, nn.Conv2d)
        if level == 0:
            return first_scores(self.unit, self.text, self.decoder.embed, head)
        kept = _Kept(len(self.alive), self.room)
        scores = []
        for rows in self._chunks():
            x = self._before(level, rows)
            kept.put(rows, x)
            scores.append(head(x)[:, 0])
        if kept.maps is not None:
            self.before = {level: kept.maps}
            self.embedded.clear()
        return torch.cat(scores)

    def _keep_only(self, going_on: Tensor) -> None:
        if going_on.all():
            return
        self.alive = self.alive[going_on]
        self.before = {level: _channels_last(x[going_on]) for level, x in self.before.items()}
        self.embedded = {level: _channels_last(x[going_on]) for level, x in self.embedded.items()}

    def _embed_all(self, level: int) -> None:
        """Pass all classes through a stage's spatial block and sum what the class attention must know of them."""
        stage, kept = self.stages[level], _Kept(len(self.alive), self.room)
        for rows in self._chunks():
            x = stage.spatial(self._before(level, rows))
            kept.put(rows, x)
            stage.attention.add(x)
        if kept.maps is not None:
            self.before.clear()
            self.embedded = {level: kept.maps}

    def _before(self, level: int, rows: slice) -> Tensor:
        """Maps in front of a stage, kept or computed."""
        if level in self.before:
            return self.before[level][rows]
        return (
            _channels_last(self.decoder.embed(self._cost(rows)))
            if level == 0
            else torch.cat(list(self._fused(level - 1, rows)))
        )

    def _fused(self, level: int, rows: slice) -> Iterator[Tensor]:
        """What a stage makes of the classes, some at a time."""
        kept, stage = self.embedded.get(level), self.stages[level]
        x = stage.attention(stage.spatial(self._before(level, rows)) if kept is None else kept[rows])
        for part in _parts(rows.start, rows.stop, max(_VALUES // stage.shared.numel(), 1)):
            yield stage.fuse(x[part.start - rows.start : part.stop - rows.start], self._cost_skip(level, part))

    def _cost(self, rows: slice) -> Tensor:
        """(n, P, h, w)."""
        text = self.text[self.alive[rows]].to(self.unit.dtype)
        product = self.unit.flatten(1).T @ text.transpose(1, 2)  # (n, h·w, P)
        return product.transpose(1, 2).unflatten(2, self.unit.shape[1:])

    def _cost_skip(self, level: int, rows: slice) -> Tensor:
        x = self._cost(rows)
        for up in self.decoder.cost_skips[: level + 1]:
            x = F.relu_(up(x))
        return x


class _Kept:
    """The maps of all classes, unless there is no room for them."""

    def __init__(self, count: int, room: int) -> None:
        self.count, self.room = count, room
        self.maps: Tensor | None = None

    def put(self, rows: slice, x: Tensor) -> None:
        if self.count * x[0].numel() * x.element_size() > self.room:
            return
        if self.maps is None:
            self.maps = torch.empty_like(x[:1].expand(self.count, -1, -1, -1), memory_format=torch.channels_last)
        self.maps[rows] = x


class _FusedStage:
    """A stage for one picture, its weights in the form in which they cost least. Maps lie in memory channels last."""

    def __init__(self, stage: Stage, image_skip: Tensor, pooling: int) -> None:
        self.stage = stage
        self.attention = _Attention(stage.classes, pooling)
        up, skip = stage.up.out_channels, image_skip.shape[1]
        of_up, of_image, of_cost = stage.conv1.weight.split((up, skip, skip), dim=1)
        # A convolution behind a transposed one is a transposed one whose kernel is the first laid over the second.
        self.up = _channels_last(F.conv2d(stage.up.weight, of_up, padding=2))
        self.cost = _channels_last(of_cost)
        assert stage.up.bias is not None
        bias = stage.up.bias[:, None, None].expand(1, -1, *image_skip.shape[2:])
        self.shared = _channels_last(
            F.conv2d(torch.cat((bias, image_skip), dim=1), torch.cat((of_up, of_image), dim=1), padding=1)
        )

    def spatial(self, x: Tensor) -> Tensor:
        """x: (n, C, h, w), which is overwritten with the result."""
        block = self.stage.spatial
        weight, bias = (block.scale[:, None] * block.linear2.weight).T, block.scale * block.linear2.bias
        y = block.depthwise(x)
        for result, part in zip(_rows(x).split(_TOKENS), _rows(y).split(_TOKENS), strict=True):
            result.addmm_(F.gelu(block.linear1(block.norm(part))), weight).add_(bias)
        return x

    def fuse(self, x: Tensor, cost_skip: Tensor) -> Tensor:
        """x: (n, C, h, w) behind the class attention; cost_skip: (n, G, 2h, 2w). Returns (n, D, 2h, 2w)."""
        y = F.conv_transpose2d(x, self.up, stride=2, padding=1)
        y += F.conv2d(cost_skip, self.cost, padding=1)
        y += self.shared
        y = self.stage.conv2(F.relu_(self.stage.norm1(y)))
        return F.relu_(self.stage.norm2(y))


class _Attention:
    """The class attention of one picture: `add` collects what must be known of all classes, a call reads it for some."""

    def __init__(self, module: ClassAttention, pooling: int) -> None:
        self.module, self.pooling = module, pooling
        self.sums: list[Tensor] = []  # for each part of the places (p·heads, d, d + 1): of keys times values, and of keys

    def add(self, x: Tensor) -> None:
        """x: (n, C, h, w)."""
        first = not self.sums
        for i, (_, tokens) in enumerate(self._places(self._pooled(x))):
            normed = self.module.norm1(tokens)
            keys = self._by_place(positive(self.module.key(normed)))
            values = F.pad(self._by_place(self.module.value(normed)), (0, 1), value=1.0)
            if first:
                self.sums.append(keys.transpose(1, 2) @ values)
            else:
                self.sums[i].baddbmm_(keys.transpose(1, 2), values)

    def __call__(self, x: Tensor) -> Tensor:
        """(n, C, h, w) → the same."""
        module = self.module
        small = self._pooled(x)
        result = torch.empty_like(small)
        of_places = result.permute(0, 2, 3, 1).flatten(1, 2)
        for sums, (places, tokens) in zip(self.sums, self._places(small), strict=True):
            read = self._by_place(positive(module.query(module.norm1(tokens)))) @ sums  # (p·heads, n, d + 1)
            mixed = read[..., :-1] / (read[..., -1:] + EPSILON)
            y = tokens + mixed.unflatten(0, (-1, module.heads)).permute(2, 0, 1, 3).flatten(2)
            rows = y.flatten(0, 1)
            hidden = F.relu_(module.linear1(module.norm2(rows)))
            rows.addmm_(hidden, module.linear2.weight.T).add_(module.linear2.bias)
            of_places[:, places] = y
        if self.pooling > 1:
            result = F.interpolate(result, size=x.shape[-2:], mode="bilinear", align_corners=True)
        return result.add_(x)

    def _pooled(self, x: Tensor) -> Tensor:
        return _channels_last(F.avg_pool2d(x, self.pooling)) if self.pooling > 1 else x

    def _places(self, x: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Some places at a time, and all classes' tokens (n, p, C) there. The parts are the same for any number of classes."""
        every = x.permute(0, 2, 3, 1).flatten(1, 2)
        return ((places, every[:, places].contiguous()) for places in _parts(0, every.shape[1], _TOKENS // CHUNK))

    def _by_place(self, x: Tensor) -> Tensor:
        """(n, p, C) → (p·heads, n, d)."""
        return x.unflatten(-1, (self.module.heads, -1)).permute(1, 2, 0, 3).flatten(0, 1)


def _parts(start: int, stop: int, step: int) -> Iterator[slice]:
    return (slice(first, min(first + step, stop)) for first in range(start, stop, step))


def _rows(x: Tensor) -> Tensor:
    """The same numbers (n, C, h, w), channels last in memory, as (n·h·w, C)."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
