"""Several data sets as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np
from torch.utils.data import Dataset

from datasets.dataset import ImageDataset
from datasets.order import Key
from xdecoder.types import Sample


class ConcatDataset(Dataset[Sample]):
    """The samples of several sets strung together; their ids begin with the name of their set.

    Raises:
        ValueError: if the sets differ in their classes, which a batch has in common where tasks look at them.
    """

    def __init__(self, parts: Sequence[ImageDataset]) -> None:
        self.parts = parts
        self.vocabulary = parts[0].vocabulary if parts[0].looks_at_classes else None
        for part in parts[1:] if parts[0].looks_at_classes else ():
            if part.vocabulary != self.vocabulary:
                pair = f"{parts[0].name!r} and {part.name!r}"
                raise ValueError(f"data sets {pair} have different classes; make each a stream of its own")
        self.name = "+".join(part.name for part in parts)
        self.captions = parts[0].captions
        self.remote = any(part.remote for part in parts)
        self._first = [0, *accumulate(len(part) for part in parts)]

    def __len__(self) -> int:
        return self._first[-1]

    def __getitem__(self, key: Key) -> Sample:
        number, own = self._own(key)
        sample = self.parts[number][own]
        return replace(sample, id=f"{self.parts[number].name}/{sample.id}")

    def replacement(self, key: Key, attempt: int) -> Key:
        number, own = self._own(key)
        index, epoch = self.parts[number].replacement(own, attempt)
        return self._first[number] + index, epoch

    def _own(self, key: Key) -> tuple[int, Key]:
        """The part that a key belongs to, and its key there."""
        index, epoch = key
        number = int(np.searchsorted(self._first, index, side="right")) - 1
        return number, (index - self._first[number], epoch)
