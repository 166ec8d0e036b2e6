"""The decoder when no gradient is asked for: a few classes at a time, with early rejection.

Only the class attention needs all classes, and being linear it needs of them no more than sums. So classes pass through the
convolutions in chunks, whose intermediate maps stay in the processor's cache; what is handed from stage to stage is kept as long
as it is small, and beyond that computed again. Three more things save work and change rounding only: the encoder's skip
features are the same for all classes, hence convolved once; the transposed convolution and the convolution behind it are one
linear map; and the first rejection needs no embedding (`xdecoder.sed.rejection`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder.sed.decoder import EPSILON, STAGES, ClassAttention, Decoder, SpatialBlock, Stage, positive
from xdecoder.sed.rejection import first_scores, survivors

CHUNK = 8  # classes at a time
ROOM = 1 << 30  # bytes that the classes' maps of one stage may take together
_TOKENS = 4096  # rows of an MLP at a time


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
        ]
        self.alive = torch.arange(len(text), device=unit.device)
        self.before: dict[int, Tensor] = {}  # kept maps of all that are alive, in front of a stage
        self.embedded: dict[int, Tensor] = {}  # the same behind its spatial block
        self.costs: Tensor | None = None

    def decode(self, choose: Callable[[Tensor, int], Tensor] | None = None) -> Decoded:
        """choose: says of scores (A, h, w) at a stage which classes (A,) bool go on; None: all do, and no scores are made."""
        history = []
        for level in range(STAGES):
            if choose is not None:
                self._keep_only(choose(self._scores(level), level))
                history.append(self.alive)
            self._embed_all(level)
        logits = torch.cat([self.decoder.head(self._before(STAGES, rows))[:, 0] for rows in self._chunks()])
        return Decoded(logits, self.alive, tuple(history))

    def _chunks(self) -> Iterator[slice]:
        """Rows of the classes that are alive."""
        count = len(self.alive)
        return (slice(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))

    def _scores(self, level: int) -> Tensor:
        """The auxiliary head's logits of all that are alive; keeps what they are made of where there is room."""
        head = self.decoder.auxiliary_heads[level]
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
        if level == 0:
            return self.decoder.embed(self._cost(rows))
        x = self.embedded.get(level - 1)
        embedded = self.stages[level - 1].spatial(self._before(level - 1, rows)) if x is None else x[rows]
        return self.stages[level - 1].fuse(embedded, self._cost_skip(level - 1, rows))

    def _cost(self, rows: slice) -> Tensor:
        """(n, P, h, w)."""
        text = self.text[self.alive[rows]].to(self.unit.dtype)
        height, width = self.unit.shape[1:]
        product = self.unit.flatten(1).T @ text.flatten(0, 1).T  # (h·w, n·P)
        return product.view(height, width, len(text), -1).permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last)

    def _cost_skip(self, level: int, rows: slice) -> Tensor:
        x = self._cost(rows)
        for up in self.decoder.cost_skips[: level + 1]:
            x = F.relu(up(x))
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
            self.maps = x.new_empty((self.count, *x.shape[1:])).to(memory_format=torch.channels_last)
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
        self.shared = _channels_last(F.conv2d(torch.cat((bias, image_skip), dim=1), torch.cat((of_up, of_image), dim=1), padding=1))

    def spatial(self, x: Tensor) -> Tensor:
        block: SpatialBlock = self.stage.spatial
        y = _rows(block.depthwise(_channels_last(x)))
        linear2 = block.linear2
        weight, bias = block.scale[:, None] * linear2.weight, block.scale * linear2.bias

        def mlp(part: Tensor) -> Tensor:
            return F.linear(F.gelu(block.linear1(block.norm(part))), weight, bias)

        return _image(_rows(x) + _by_parts(mlp, y), x)

    def fuse(self, x: Tensor, cost_skip: Tensor) -> Tensor:
        """x: (n, C, h, w) behind the spatial block; cost_skip: (n, G, 2h, 2w). Returns (n, D, 2h, 2w)."""
        stage = self.stage
        x = self.attention.apply(x)
        y = F.conv_transpose2d(x, self.up, stride=2, padding=1)
        y += F.conv2d(_channels_last(cost_skip), self.cost, padding=1)
        y += self.shared
        y = F.relu_(stage.norm1(y))
        return F.relu_(stage.norm2(stage.conv2(y)))


class _Attention:
    """The class attention of one picture, of which `add` collects the sums and `apply` reads them."""

    def __init__(self, module: ClassAttention, pooling: int) -> None:
        self.module, self.pooling = module, pooling
        self.sums: Tensor | None = None  # (h·w·heads, d, d + 1): of keys times values, and of keys

    def add(self, x: Tensor) -> None:
        k = positive(self.module.key(self._normed(x)))
        v = self.module.value(self._normed(x))
        v = F.pad(v.unflatten(-1, (self.module.heads, -1)), (0, 1), value=1.0)
        keys, values = self._by_place(k.unflatten(-1, (self.module.heads, -1))), self._by_place(v)
        product = keys.transpose(1, 2) @ values
        self.sums = product if self.sums is None else self.sums.add_(product)

    def apply(self, x: Tensor) -> Tensor:
        """(n, C, h, w) → the same."""
        assert self.sums is not None
        module = self.module
        small = self._pooled(x)
        q = positive(module.query(module.norm1(_rows(small)))).view(len(x), -1, module.heads, small.shape[1] // module.heads)
        read = self._by_place(q) @ self.sums  # (h·w·heads, n, d + 1)
        mixed = read[..., :-1] / (read[..., -1:] + EPSILON)
        tokens = _rows(small) + mixed.unflatten(0, (-1, module.heads)).permute(2, 0, 1, 3).reshape(-1, small.shape[1])
        tokens = tokens + _by_parts(lambda part: module.linear2(F.relu_(module.linear1(module.norm2(part)))), tokens)
        small = _image(tokens, small)
        if self.pooling > 1:
            small = F.interpolate(small, size=x.shape[-2:], mode="bilinear", align_corners=True)
        return x + small

    def _pooled(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.pooling) if self.pooling > 1 else x

    def _normed(self, x: Tensor) -> Tensor:
        """(n, h·w, C)."""
        return self.module.norm1(_rows(self._pooled(x))).unflatten(0, (len(x), -1))

    @staticmethod
    def _by_place(x: Tensor) -> Tensor:
        """(n, h·w, heads, d) → (h·w·heads, n, d)."""
        return x.permute(1, 2, 0, 3).flatten(0, 1)


def _by_parts(function: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    return torch.cat([function(part) for part in rows.split(_TOKENS)])


def _rows(x: Tensor) -> Tensor:
    """(n, C, h, w), channels last in memory, as (n·h·w, C)."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _image(rows: Tensor, like: Tensor) -> Tensor:
    count, channels, height, width = like.shape
    return rows.view(count, height, width, channels).permute(0, 3, 1, 2)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
