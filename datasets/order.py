"""Which sample comes when: seeded permutations that any place can be asked of, so that nothing but a number need be saved.

A stream is an endless row of places; a batch is the next few of them. What stands at a place follows from the seed and the
place alone, whoever asks: any number of processes and workers, before or after an interruption.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

WINDOW = 4  # blocks that are shuffled together and that a reader therefore keeps open
PERIOD = 1000  # places over which given shares come out exactly

Key = tuple[int, int]  # index of a sample, epoch in which it is seen


class Order(Protocol):
    def keys(self, places: np.ndarray) -> list[Key]: ...


class ShuffledEpochs:
    """One set over and over; each epoch is another permutation in which every sample comes once.

    Args:
        count: samples.
        seed: of all permutations.
        blocks: indices at which the blocks of a source start that is read a block at a time. Then blocks come in random order
            and samples are shuffled within windows of a few of them, so that a reader needs to hold no more than these.
    """

    def __init__(self, count: int, seed: int, blocks: Sequence[int] | None = None) -> None:
        self.count, self.seed, self.blocks = count, seed, blocks
        self._epoch, self._permutation = -1, np.empty(0, dtype=np.int64)

    def keys(self, places: np.ndarray) -> list[Key]:
        return [(int(self._permuted(epoch)[place]), epoch) for epoch, place in _split(places, self.count)]

    def _permuted(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            rng = np.random.default_rng((self.seed, epoch))
            self._epoch = epoch
            self._permutation = rng.permutation(self.count) if self.blocks is None else self._by_windows(rng)
        return self._permutation

    def _by_windows(self, rng: np.random.Generator) -> np.ndarray:
        assert self.blocks is not None
        starts = [start for start in self.blocks if start < self.count]
        blocks = np.split(np.arange(self.count), starts[1:])
        order = rng.permutation(len(blocks))
        windows = [np.concatenate([blocks[i] for i in order[at : at + WINDOW]]) for at in range(0, len(order), WINDOW)]
        return np.concatenate([rng.permutation(window) for window in windows])


class WeightedMix:
    """Several sets in one row, each in the order of its own cycle; indices are those of the sets strung together.

    Args:
        cycles: one a set.
        seed: of who comes when.
        weights: how much each contributes, in any unit. By default as much as it has: then an epoch of the whole holds every
            sample of every set once. Otherwise small sets come round sooner than large ones, but none shows a sample twice
            before it has shown all.
    """

    def __init__(self, sequences: Sequence[ShuffledEpochs], seed: int, weights: Sequence[float] | None = None) -> None:
        self.sequences, self.seed = sequences, seed
        self.counts = np.array([sequence.count for sequence in sequences]) if weights is None else _apportioned(weights)
        self.first = np.cumsum([0, *(sequence.count for sequence in sequences)])
        self._period, self._which, self._turn = -1, np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)

    def keys(self, places: np.ndarray) -> list[Key]:
        keys = []
        for period, place in _split(places, int(self.counts.sum())):
            self._draw(period)
            which = self._which[place]
            ((index, epoch),) = self.sequences[which].keys(np.array([period * self.counts[which] + self._turn[place]]))
            keys.append((int(self.first[which]) + index, epoch))
        return keys

    def _draw(self, period: int) -> None:
        """Who comes at each place of the period, and which turn of his it is there."""
        if period == self._period:
            return
        owners = np.repeat(np.arange(len(self.counts), dtype=np.int16), self.counts)
        self._period, self._which = period, np.random.default_rng((self.seed, period)).permutation(owners)
        self._turn = np.empty(len(owners), dtype=np.int64)
        self._turn[np.argsort(self._which, kind="stable")] = np.concatenate([np.arange(count) for count in self.counts])


class BatchSampler:
    """Endless lists of keys: one process's share of batch after batch.

    Every batch is dealt out in turn: place p of it goes to process p modulo `world_size`.
    """

    def __init__(self, order: Order, batch_size: int, rank: int = 0, world_size: int = 1, start: int = 0) -> None:
        self.order, self.batch_size = order, batch_size
        self.rank, self.world_size, self.start = rank, world_size, start

    def __iter__(self) -> Iterator[list[Key]]:
        place = self.start * self.batch_size
        while True:
            yield self.order.keys(np.arange(place, place + self.batch_size)[self.rank :: self.world_size])
            place += self.batch_size


def _split(places: np.ndarray, length: int) -> Iterator[tuple[int, int]]:
    """Each place as (round, place within it)."""
    for place in places.tolist():
        yield divmod(place, length)


def _apportioned(weights: Sequence[float]) -> np.ndarray:
    """Whole numbers in proportion to the shares that sum to the period; at least one each."""
    wanted = np.array(weights) / sum(weights) * PERIOD
    counts = np.maximum(np.floor(wanted), 1).astype(np.int64)
    order = np.argsort(counts - wanted, kind="stable")  # who lost most by rounding down comes first
    for turn in range(PERIOD - int(counts.sum())):
        counts[order[turn % len(counts)]] += 1
    return counts
