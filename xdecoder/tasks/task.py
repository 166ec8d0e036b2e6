"""What tasks share: a batch's captions, and the generators that its random numbers come from."""

from __future__ import annotations

import torch

from xdecoder.rng import generator
from xdecoder.types import Batch


def generators_of(batch: Batch, purpose: str, device: torch.device) -> list[torch.Generator | None]:
    """Per picture, what its random numbers for one purpose are drawn from."""
    return [generator(sample.seed, purpose, device) for sample in batch.samples]


def captions_of(batch: Batch) -> list[str]:
    """The captions of each picture that are learnt from, `batch.captions` of each; raises ValueError for one that has none."""
    for sample in batch.samples:
        if not sample.captions:
            raise ValueError(f"picture {sample.id} of {batch.source} has no caption, which captioning and retrieval need")
    return [caption for sample in batch.samples for caption in sample.captions[: batch.captions]]
