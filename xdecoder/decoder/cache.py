"""Keys and values that are kept: what decoder layers read of images, and what tokens left for later ones to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xdecoder.decoder.attention import TokenGroup

Pair = tuple[Tensor, Tensor]  # keys and values


@dataclass(frozen=True)
class Level:
    """One of the maps as layers read it."""

    keys: Tensor  # (B, h·w, C)
    values: Tensor  # (B, h·w, C)
    features: Tensor  # (B, C, h', w') of which attention masks are made: at the map's size, or at the mask features' own
    size: tuple[int, int]  # h, w


class KeyValueCache:
    """B encoded images as the decoder's layers see them.

    Args:
        levels: for each layer the map that it reads.
        projections: for each layer, what makes its cross-attention's keys and values of the map's.
        keep: remember what each layer projected; worth its memory if more than one question is asked.
    """

    def __init__(self, levels: Sequence[Level], projections: Sequence[Callable[..., Pair]], keep: bool) -> None:
        self.levels, self.keep = levels, keep
        self._projections = projections
        self._projected: dict[int, Pair] = {}

    def __len__(self) -> int:
        return self.levels[0].keys.shape[0]

    def projected(self, layer: int) -> Pair:
        """Keys and values of the layer's cross-attention, each (B, heads, h·w, C / heads)."""
        if layer not in self._projected:
            level = self.levels[layer]
            keys, values = self._projections[layer](level.keys, level.values)
            # Head by head, a token reads them in half the time.
            self._projected[layer] = keys.contiguous(), values.contiguous()
        return self._projected[layer]


class TokenCache:
    """Tokens that were decoded before, as the self-attention of each layer keeps them: (B, heads, P, C / heads)."""

    def __init__(self, layers: int) -> None:
        self.groups: dict[str, int] = {}  # how many tokens of each group there are, in the order in which they came
        self._pairs: list[Pair | None] = [None] * layers
        self._room = 0

    def __len__(self) -> int:
        return sum(self.groups.values())

    def begin(self, groups: Sequence[TokenGroup]) -> dict[str, int]:
        """Announce groups whose tokens each layer will `join`; what was there before."""
        before = dict(self.groups)
        assert not before or len(groups) == 1, "tokens are added to a cache one group at a time"
        for group in groups:
            assert not group.fresh, f"tokens of {group.name} do not live on"
            self.groups[group.name] = self.groups.get(group.name, 0) + group.content.shape[1]
        return before

    def join(self, layer: int, keys: Tensor, values: Tensor) -> Pair:
        """Add a layer's keys and values (B, heads, N, C / heads) of new tokens; returns those of all tokens so far."""
        old, end = self._pairs[layer], len(self)
        if old is None:
            self._pairs[layer] = keys, values
        elif self._room:
            for kept, new in zip(old, (keys, values), strict=True):
                kept[:, :, end - new.shape[2] : end] = new
            return old[0][:, :, :end], old[1][:, :, :end]
        else:
            self._pairs[layer] = torch.cat((old[0], keys), dim=2), torch.cat((old[1], values), dim=2)
        pair = self._pairs[layer]
        assert pair is not None
        return pair

    def continued(self, rows: int = 1, room: int = 0) -> TokenCache:
        """A cache that goes on from this one and leaves it as it is.

        Args:
            rows: sets of tokens that go on from each of B rows; the new cache has B·rows.
            room: how many tokens will be added at most, where that is known; they are then written in place.
        """
        copy = TokenCache(len(self._pairs))
        copy.groups, copy._room = dict(self.groups), room
        copy._pairs = [pair and (_with_room(pair[0], rows, room), _with_room(pair[1], rows, room)) for pair in self._pairs]
        return copy

    def follow(self, rows: Tensor, count: int) -> None:
        """The last `count` tokens of row i become what they are in row rows[i]; rows: (B·R,) int64."""
        for pair in self._pairs:
            for kept in pair or ():
                new = kept[:, :, len(self) - count : len(self)]
                new.copy_(new[rows])


def _with_room(kept: Tensor, rows: int, room: int) -> Tensor:
    if rows == 1 and not room:
        return kept
    repeated = kept.repeat_interleave(rows, dim=0)
    return torch.cat((repeated, repeated.new_empty(*repeated.shape[:2], room, repeated.shape[3])), dim=2)
