"""Projections of decoder outputs: what each token means, which mask it paints, which word comes next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from xdecoder.layers import Mlp


class QueryOutputs:
    """What N tokens say, computed when it is asked for.

    Args:
        tokens: (B, N, C), behind the heads' LayerNorm.
    """

    def __init__(self, heads: Heads, tokens: Tensor) -> None:
        self.heads, self.tokens = heads, tokens

    @cached_property
    def semantic(self) -> Float[Tensor, "B N D"]:
        """Meanings (B, N, D) in the joint space of images and texts, not normalised."""
        return self.tokens @ self.heads.semantic

    @cached_property
    def mask(self) -> Float[Tensor, "B N C"]:
        """Mask embeddings (B, N, C); times the mask features they are the masks' logits."""
        embeddings: Tensor = self.heads.mask(self.tokens)
        return embeddings

    @cached_property
    def word(self) -> Float[Tensor, "B N C"]:
        """Next words (B, N, C), ready to be compared with the word embeddings."""
        return self.tokens @ self.heads.caption

    def masks(self, mask_features: Float[Tensor, "_ C h w"]) -> Float[Tensor, "B N h w"]:
        """Mask logits (B, N, h, w) from mask features (B, C, h, w)."""
        return paint(self.mask, mask_features)


class Prediction(Mapping[str, QueryOutputs]):
    """What one decoder layer says, by token group.

    Args:
        content: the layer's tokens of each group, (B, N, C).
    """

    def __init__(self, heads: Heads, content: Mapping[str, Tensor]) -> None:
        self.heads, self.content = heads, content
        self._outputs: dict[str, QueryOutputs] = {}

    def __getitem__(self, group: str) -> QueryOutputs:
        if group not in self._outputs:
            tokens: Tensor = self.heads.norm(self.content[group])
            if group == "image":
                tokens = _summarise(tokens, self["object"].tokens)
            self._outputs[group] = QueryOutputs(self.heads, tokens)
        return self._outputs[group]

    def __iter__(self) -> Iterator[str]:
        return iter(self.content)

    def __len__(self) -> int:
        return len(self.content)

    @cached_property
    def object_and_image(self) -> QueryOutputs:
        """Objects, then the image token if there is one, as one set of queries: what segmentation reads."""
        if "image" not in self:
            return self["object"]
        return QueryOutputs(self.heads, torch.cat((self["object"].tokens, self["image"].tokens), dim=1))


class Heads(nn.Module):
    """Mask, semantic and caption heads behind one LayerNorm, shared by all layers (section 3.2 of the paper).

    Args:
        width: size C of decoder tokens.
        joint_width: size D of the joint space of images and texts.
        captions: whether there is a caption head.
    """

    def __init__(self, width: int, joint_width: int, captions: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.semantic = nn.Parameter(torch.empty(width, joint_width))
        if captions:
            self.caption = nn.Parameter(torch.empty(width, joint_width))
        self.mask = Mlp(width, width, width, width)
        for projection in (self.semantic, *((self.caption,) if captions else ())):
            nn.init.trunc_normal_(projection, std=width**-0.5)  # keeps the size of what it projects, at any width


def paint(embeddings: Float[Tensor, "BR N C"], mask_features: Float[Tensor, "B C h w"]) -> Float[Tensor, "BR N h w"]:
    """Mask logits (B·R, N, h, w) of R sets of mask embeddings (B·R, N, C) for each picture's mask features (B, C, h, w)."""
    folded = embeddings.reshape(mask_features.shape[0], -1, embeddings.shape[-1])
    masks = torch.einsum("bnc,bchw->bnhw", folded, mask_features)
    return masks.reshape(*embeddings.shape[:2], *mask_features.shape[-2:])


def _summarise(image: Float[Tensor, "B 1 C"], objects: Float[Tensor, "B N C"]) -> Float[Tensor, "B 1 C"]:
    """The image token as a mean of the objects, weighted by the softmax of its cosines with them: (B, 1, C)."""
    cosines = F.normalize(image, dim=-1) @ F.normalize(objects, dim=-1).transpose(1, 2)
    return cosines.softmax(dim=-1) @ objects
