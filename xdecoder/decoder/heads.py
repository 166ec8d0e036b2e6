"""Projections of decoder outputs: what each token means, which mask it paints, which word comes next."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xdecoder.config import Config
from xdecoder.layers import Mlp


@dataclass(frozen=True)
class QueryOutputs:
    """Predictions of N queries."""

    semantic: Tensor  # (B, N, D) in the joint space of pictures and texts, not normalised
    mask: Tensor  # (B, N, C); times the mask features this is the mask's logits

    def masks(self, mask_features: Tensor) -> Tensor:
        """Mask logits (B, N, h, w) from mask features (B, C, h, w)."""
        return paint(self.mask, mask_features)


@dataclass(frozen=True)
class Prediction:
    """What one decoder layer says, by token group."""

    object: QueryOutputs
    image: QueryOutputs  # one row: the whole picture
    grounding: QueryOutputs | None  # present with phrases
    caption: Tensor | None  # (B, N, C) ready to be compared with the word embeddings
    denoising: QueryOutputs | None = None  # present where annotated regions are shown in training

    def mask_embeddings(self) -> dict[str, Tensor]:
        """Mask embeddings (B, N, C) by group."""
        rows = {"object": self.object, "image": self.image, "grounding": self.grounding}
        return {name: row.mask for name, row in rows.items() if row is not None}

    def object_and_image(self) -> QueryOutputs:
        """Objects, then the image token, as one set of rows: what segmentation reads."""
        return QueryOutputs(
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
            nn.init.trunc_normal_(projection, std=width**-0.5)  # keeps the size of what it projects, at any width

    def forward(self, groups: dict[str, Tensor]) -> Prediction:
        """groups: decoder tokens by name, each (B, N, C)."""
        normed = self.normed(groups)
        return Prediction(
            object=self.rows(normed["object"]),
            image=self.rows(normed["image"]),
            grounding=self.rows(normed["grounding"]) if "grounding" in normed else None,
            caption=normed["caption"] @ self.caption if "caption" in normed else None,
            denoising=self.rows(normed["denoising"]) if "denoising" in normed else None,
        )

    def normed(self, groups: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the projections are applied to: all groups but words, the image token as a summary of the objects."""
        normed = {name: self.norm(tokens) for name, tokens in groups.items() if name != "word"}
        if "image" in normed:
            normed["image"] = _summarise(normed["image"], normed["object"])
        return normed

    def rows(self, normed: Tensor) -> QueryOutputs:
        """Meaning and mask of tokens that `normed` gave, (B, N, C)."""
        return QueryOutputs(normed @ self.semantic, self.mask(normed))


class AnswerConfig(Config):
    """Answering questions by choosing among known answers (section 4 of the paper)."""

    answers: tuple[str, ...]
    """What can be answered; published: the 3129 most common answers of VQAv2."""
    image_size: int = 640
    """Side of the square pictures that it answers best about."""


class AnswerHead(nn.Module):
    """Decoder tokens of its own, one for each place of a question, and a classifier of the token at the question's end.

    Args:
        width: size C of decoder tokens.
        length: longest question in tokens.
    """

    def __init__(self, config: AnswerConfig, width: int, length: int) -> None:
        super().__init__()
        self.config = config
        self.query_content = nn.Embedding(length, width)
        self.classifier = nn.Sequential(
            nn.Linear(width, 2 * width), nn.LayerNorm(2 * width), nn.GELU(), nn.Linear(2 * width, len(config.answers))
        )

    def forward(self, normed: Tensor) -> Tensor:
        """Logits (B, answers) of the decoder's token at the end of each question (B, C), behind the shared LayerNorm."""
        return self.classifier(normed)


def paint(embeddings: Tensor, mask_features: Tensor) -> Tensor:
    """Mask logits (B·R, N, h, w) of R sets of mask embeddings (B·R, N, C) for each picture's mask features (B, C, h, w)."""
    folded = embeddings.reshape(mask_features.shape[0], -1, embeddings.shape[-1])
    masks = torch.einsum("bnc,bchw->bnhw", folded, mask_features)
    return masks.reshape(*embeddings.shape[:2], *mask_features.shape[-2:])


def _summarise(image: Tensor, objects: Tensor) -> Tensor:
    """The image token as a mean of the objects, weighted by the softmax of its cosines with them: (B, 1, C)."""
    cosines = F.normalize(image, dim=-1) @ F.normalize(objects, dim=-1).transpose(1, 2)
    return cosines.softmax(dim=-1) @ objects
