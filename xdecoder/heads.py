"""Projections of decoder outputs: what each token means, which mask it paints, which word comes next."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xdecoder.layers import Mlp


@dataclass(frozen=True)
class Rows:
    """Predictions of N queries."""

    semantic: Tensor   # (B, N, D) in the joint space of pictures and texts, not normalised
    mask: Tensor       # (B, N, C); times the mask features this is the mask's logits

    def masks(self, mask_features: Tensor) -> Tensor:
        """Mask logits (B, N, h, w) from mask features (B, C, h, w)."""
        return torch.einsum("bnc,bchw->bnhw", self.mask, mask_features)


@dataclass(frozen=True)
class Prediction:
    """What one decoder layer says, by token group."""

    object: Rows
    image: Rows                   # one row: the whole picture
    grounding: Rows | None        # present with phrases
    caption: Tensor | None        # (B, N, C) ready to be compared with the word embeddings
    pilot: Rows | None = None     # present where annotated regions are shown in training

    def latent(self) -> Rows:
        """Objects, then the image token, as one set of rows: what segmentation reads."""
        return Rows(
            torch.cat((self.object.semantic, self.image.semantic), dim=1),
            torch.cat((self.object.mask, self.image.mask), dim=1),
        )


class Heads(nn.Module):
    """Mask, semantic and caption heads behind one LayerNorm, shared by all layers (section 3.2 of the paper).

    Args:
        width: size C of decoder tokens.
        joint_width: size D of the joint space of pictures and texts.
    """

    def __init__(self, width: int, joint_width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.semantic = nn.Parameter(torch.empty(width, joint_width))
        self.caption = nn.Parameter(torch.empty(width, joint_width))
        self.mask = Mlp(width, width, width, width)
        for projection in (self.semantic, self.caption):
            nn.init.trunc_normal_(projection, std=width**-0.5)      # keeps the size of what it projects, at any width

    def forward(self, groups: dict[str, Tensor]) -> Prediction:
        """groups: decoder tokens by name, each (B, N, C)."""
        normed = {name: self.norm(tokens) for name, tokens in groups.items() if name != "word"}
        return Prediction(
            object=self._rows(normed["object"]),
            image=self._rows(_summarise(normed["image"], normed["object"])),
            grounding=self._rows(normed["grounding"]) if "grounding" in normed else None,
            caption=normed["caption"] @ self.caption if "caption" in normed else None,
            pilot=self._rows(normed["pilot"]) if "pilot" in normed else None,
        )

    def _rows(self, tokens: Tensor) -> Rows:
        return Rows(tokens @ self.semantic, self.mask(tokens))


def _summarise(image: Tensor, objects: Tensor) -> Tensor:
    """The image token as a mean of the objects, weighted by the softmax of its cosines with them: (B, 1, C)."""
    cosines = F.normalize(image, dim=-1) @ F.normalize(objects, dim=-1).transpose(1, 2)
    return cosines.softmax(dim=-1) @ objects
