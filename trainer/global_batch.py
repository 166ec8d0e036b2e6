"""The batches of one step, in all processes and accumulated parts: how they come to the losses of one large batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer import distributed
from trainer.distributed import World
from xdecoder.losses.context import StepContext
from xdecoder.rng import seed_of, with_drawn_captions
from xdecoder.types import Batch


@dataclass(frozen=True)
class SeededBatch:
    """A batch whose samples know their places in the stream, and with them all that will be drawn for them."""

    batch: Batch
    places: tuple[int, ...]


def place(batch: Batch, number: int, origin: tuple[int, int], step: int, world: World) -> SeededBatch:
    """Number a batch's samples and draw their captions.

    Args:
        batch: this process's share of one batch of the stream, dealt out in turn: sample i of process r is place i·size + r.
        number: how many batches came before.
        origin: the run's seed and the stream's number.
        step: the step, for what its samples share.
    """
    first = number * len(batch)
    places = tuple((first + i) * world.size + world.rank for i in range(len(batch)))
    samples = tuple(
        replace(sample, seed=seed_of(*origin, "sample", at)) for sample, at in zip(batch.samples, places, strict=True)
    )
    return SeededBatch(with_drawn_captions(replace(batch, samples=samples, seed=seed_of(*origin, "step", step))), places)


class GlobalBatch:
    """What the batches of one stream in one step know of each other, and the rows that they exchange.

    Each batch compares its rows, which carry a gradient, with everyone's, which do not. So every process computes the whole
    loss and is left with the whole gradient of its own rows, and nothing need be exchanged while gradients are computed.
    Rows of parts that are still to come are found in a collecting pass (as in GradCache), a forward without gradient.
    """

    def __init__(self, counts: Sequence[Mapping[str, float]], places: Sequence[Sequence[int]], world: World) -> None:
        facts = distributed.gather_everywhere((list(counts), list(places)), world)
        self.world, self.parts = world, len(places)
        self.totals: dict[str, float] = {}
        for each in (part for theirs, _ in facts for part in theirs):
            for name, number in each.items():
                self.totals[name] = self.totals.get(name, 0) + number
        row = [at for _, theirs in facts for part in theirs for at in part]
        self.order = sorted(range(len(row)), key=row.__getitem__)  # that of one large batch
        self.collected: list[list[Any]] = [[] for _ in range(self.parts)]  # what each part brought, exchange by exchange
        self._everyones: dict[int, list[Any]] = {}

    def collecting_pass(self, part: int) -> StepContext:
        """For a forward that only shows which rows a part brings."""
        return _CollectingPass(self.totals, rows=self.collected[part])

    def context(self, part: int) -> StepContext:
        """For the forward of a part that is learnt from."""
        if self.parts * self.world.size == 1:
            return StepContext(self.totals)
        return _Together(self.totals, self.parts * self.world.size, global_batch=self, part=part)

    def everyones(self, number: int, own: Any, gather: Callable[[list[Any], World], list[Any]]) -> list[Any]:
        """What every part of every process brought to the exchange of this number, process by process."""
        if number not in self._everyones:
            mine = [rows[number] for rows in self.collected] if self.parts > 1 else [own]
            self._everyones[number] = gather(mine, self.world)
        return list(self._everyones[number])


@dataclass(frozen=True)
class _CollectingPass(StepContext):
    rows: list[Any] = field(default_factory=list)

    def everyone(self, rows: Tensor) -> Tensor:
        self.rows.append(rows.detach())
        return rows

    def everyones(self, items: Sequence[Any]) -> list[Any]:
        self.rows.append(list(items))
        return list(items)


@dataclass(frozen=True)
class _Together(StepContext):
    global_batch: GlobalBatch = field(kw_only=True)
    part: int = field(kw_only=True)
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def _place(self) -> int:
        return self.global_batch.world.rank * self.global_batch.parts + self.part

    def everyone(self, rows: Tensor) -> Tensor:
        parts = self.global_batch.everyones(next(self.numbers), rows.detach(), _gather_tensors)
        parts[self._place] = rows
        return torch.cat(_padded(parts))[self.global_batch.order]

    def everyones(self, items: Sequence[Any]) -> list[Any]:
        parts = self.global_batch.everyones(next(self.numbers), list(items), _gather_plain)
        parts[self._place] = list(items)
        row = [item for part in parts for item in part]
        return [row[at] for at in self.global_batch.order]


def _gather_plain(mine: list[Any], world: World) -> list[Any]:
    return [part for theirs in distributed.gather_everywhere(mine, world) for part in theirs]


def _gather_tensors(mine: list[Tensor], world: World) -> list[Tensor]:
    """Every process's tensors, of any shapes with one number of dimensions."""
    if world.size == 1:
        return mine
    shapes = _gather_plain([tuple(x.shape) for x in mine], world)
    shape = [max(sizes) for sizes in zip(*shapes, strict=True)]
    sent = torch.stack([_pad(x, shape) for x in mine])
    received = distributed.gather_tensors(sent, world)
    every = [part for theirs in received for part in theirs]
    return [x[: own[0]] for x, own in zip(every, shapes, strict=True)]


def _padded(parts: Sequence[Tensor]) -> list[Tensor]:
    """With zeros behind, so that all but the numbers of rows agree."""
    widest = [max(sizes) for sizes in zip(*(x.shape[1:] for x in parts), strict=True)]
    return [_pad(x, [len(x), *widest]) for x in parts]


def _pad(x: Tensor, shape: Sequence[int]) -> Tensor:
    missing = [(0, wanted - size) for size, wanted in zip(x.shape, shape, strict=True)]
    return F.pad(x, [n for pair in reversed(missing) for n in pair])
