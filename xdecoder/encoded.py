"""Encoded images, of which questions are asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from xdecoder.decoder.attention import TokenGroup
from xdecoder.decoder.cache import KeyValueCache, TokenCache
from xdecoder.decoder.decoder import Decoder
from xdecoder.decoder.heads import Prediction, QueryOutputs


@dataclass(frozen=True)
class Latents:
    """The decoded latent queries of B images: all that segmentation, captions and retrieval read."""

    predictions: tuple[Prediction, ...]  # before the first layer and after each one
    tokens: TokenCache  # what others may look at

    @property
    def outputs(self) -> QueryOutputs:
        """What objects and, last, the image token say in the end."""
        return self.predictions[-1].object_and_image


@dataclass(frozen=True)
class Encoded:
    """Encoded images, of which as many questions as one likes can be asked; what several need is computed for the first."""

    decoder: Decoder
    mask: Float[Tensor, "B C h w"]
    maps: tuple[Float[Tensor, "B C _ _"], Float[Tensor, "B C _ _"], Float[Tensor, "B C _ _"]]  # of strides 32, 16, 8
    pooled: Float[Tensor, "B D"] | None  # mean of the coarsest backbone map, in the joint space; None = no such view
    sizes: tuple[tuple[int, int], ...]  # height and width of each image inside the padded H × W
    padded: tuple[int, int]  # H, W
    keep: bool = True  # remember what each decoder layer reads; worth its memory if more than one question is asked
    full_size_masks: bool = False  # make attention masks at full size: slower, and equal to published networks to the last bit

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def cache(self) -> KeyValueCache:
        """What the decoder's layers read."""
        return self.decoder.read(self.mask, self.maps, self.full_size_masks, self.keep)

    @cached_property
    def latents(self) -> Latents:
        """The latent queries, decoded once; they never see what tasks bring."""
        tokens = TokenCache(len(self.decoder.layers))
        return Latents(tuple(self.decoder.run(self.cache, self.decoder.latent_queries(len(self)), tokens)), tokens)

    @cached_property
    def unmasked_latents(self) -> Latents:
        """The latent queries as they are where they may look everywhere, which published answers are read from."""
        tokens, queries = TokenCache(len(self.decoder.layers)), self.decoder.latent_queries(len(self))
        return Latents(tuple(self.decoder.run(self.cache, queries, tokens, self.decoder.table.unmasked())), tokens)

    def ask(self, *groups: TokenGroup, past: TokenCache | None = None) -> Prediction:
        """What tokens say in the end that are decoded by themselves, or behind `past`; of B rows, or of B·R rows."""
        *_, last = self.decoder.run(self.cache, groups, past)
        return last

    def of(self, image: int) -> Encoded:
        """One image's, as a batch of one."""
        if len(self) == 1:
            return self
        part = slice(image, image + 1)
        coarse, middle, fine = (x[part] for x in self.maps)
        return replace(
            self,
            mask=self.mask[part],
            maps=(coarse, middle, fine),
            pooled=None if self.pooled is None else self.pooled[part],
            sizes=self.sizes[part],
        )

    @staticmethod
    def stack(images: Sequence[Encoded]) -> Encoded:
        """One batch of what was encoded at one padded size."""
        coarse, middle, fine = (torch.cat(maps) for maps in zip(*(each.maps for each in images), strict=True))
        return replace(
            images[0],
            mask=torch.cat([each.mask for each in images]),
            maps=(coarse, middle, fine),
            pooled=None if images[0].pooled is None else torch.cat([each.pooled for each in images if each.pooled is not None]),
            sizes=tuple(size for each in images for size in each.sizes),
        )
