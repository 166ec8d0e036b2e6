"""Everything that training draws follows from a seed of the sample, or of the step for what its samples share.

So what is drawn depends neither on which process a sample comes to nor on what else it is batched with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from xdecoder.types import Batch


def seed_of(*origin: int | str) -> int:
    """A seed (63 bits) that differs wherever the origin differs; the same on all machines."""
    digest = hashlib.blake2b(repr(origin).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int | None, purpose: str, device: torch.device | str = "cpu") -> torch.Generator | None:
    """What to draw from for one purpose; None, which is torch's own generator, for a sample without a seed."""
    return None if seed is None else torch.Generator(device).manual_seed(seed_of(seed, purpose))


def rand_by_image(
    counts: Sequence[int], *size: int, device: torch.device, generators: Sequence[torch.Generator | None] | None
) -> Tensor:
    """Uniform numbers, a tensor of shape (sum(counts), *size).

    Args:
        counts: rows for each picture b.
        generators: per picture, what its rows are drawn from; None: torch's own.
    """
    if generators is None or all(each is None for each in generators):
        return torch.rand(sum(counts), *size, device=device)
    rows = [torch.rand(count, *size, device=device, generator=each) for count, each in zip(counts, generators, strict=True)]
    return torch.cat(rows)


def with_drawn_captions(batch: Batch) -> Batch:
    """Each image keeps as many of its captions as are learnt from at a time: the loader's, or one drawn at random, with its
    nouns."""
    samples = []
    for sample in batch.samples:
        if len(sample.captions) > batch.captions:
            drawn = int(torch.randint(len(sample.captions), (), generator=generator(sample.seed, "caption")))
            sample = replace(sample, captions=(sample.captions[drawn],), nouns=sample.nouns[drawn : drawn + 1])
        samples.append(sample)
    return replace(batch, samples=tuple(samples))
