"""What a network leaves to chance about what is marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from xdecoder.rng import generator


class Draws(Protocol):
    """What is left to chance in one pass. Training, sessions and tests each decide it in their own way."""

    def points(self, image: int, owner: Tensor, most: int) -> Tensor:
        """Which `most` of an image's more points (P,) to look at, in rising order; owner: the object of each point."""
        ...

    def queries(self, count: int, among: int) -> Tensor:
        """Of which object queries the Q = `count` queries of marked objects are copies, on all images alike: (Q,)."""
        ...

    def memory(self, count: int, objects: Sequence[int]) -> Tensor:
        """To which of an image's objects each of `count` memory tokens belongs in the next layer: (B, count), rows rising."""
        ...


class SeededDraws:
    """Draws that follow from seeds alone.

    Args:
        shared: seed of what images of a batch have in common; None: torch's own generator.
        images: seed of what is each image's own, likewise.
    """

    def __init__(self, shared: int | None = 0, images: Sequence[int | None] = (0,)) -> None:
        self._shared = generator(shared, "stroke queries")
        self._images = [generator(seed, "strokes") for seed in images]

    def points(self, image: int, owner: Tensor, most: int) -> Tensor:
        """Each object has the same chances, however many points it has."""
        owner = owner.cpu()
        shares = 1.0 / owner.bincount()[owner]
        return torch.multinomial(shares, most, generator=self._images[image]).sort().values

    def queries(self, count: int, among: int) -> Tensor:
        """Uniform numbers of queries, (Q,) of Q = `count`; a larger batch draws the same ones first."""
        return torch.randint(among, (count,), generator=self._shared)

    def memory(self, count: int, objects: Sequence[int]) -> Tensor:
        """Uniform numbers of an image's own objects, (B, M) of M = `count`."""
        drawn = [
            torch.randint(max(number, 1), (count,), generator=own).sort().values
            for number, own in zip(objects, self._images, strict=True)
        ]
        return torch.stack(drawn)
