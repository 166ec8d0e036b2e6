"""The head that answers questions, and what it may read of an image beside the decoder's tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from xdecoder.config import Config
from xdecoder.decoder.decoder import DecoderLayer
from xdecoder.decoder.heads import QueryOutputs
from xdecoder.language import vocabularies
from xdecoder.layers import Mlp, initialise_transformer

_PLACE = 5  # numbers that say where a mask lies: its middle and its spread along both axes, and its size
_GAIN = 10.0  # factor of cosines at first


class AnswerConfig(Config):
    """Answering questions by choosing among known answers (section 4 of the paper)."""

    answers: tuple[str, ...] = Field(min_length=2)
    """What can be answered, "" where a place has no answer; or "vqav2" for the 3129 answers of the published head."""
    masked_latents: bool = True
    """Whether questions look at the latent queries that segmentation uses, so that an image is decoded once for both; published
    weights learnt with latent queries that look everywhere."""
    layers: int = Field(0, ge=0)
    """Layers of the head's own, whose tokens begin as the question's words and read what the latent queries found in the end:
    what they say, what is seen inside their masks, and where these lie. 0 = questions pass through the decoder beside the
    latent queries, and words are only positions, that is, what attention looks for (published); that is learnt slowly."""
    image_size: int = 640
    """Side of the square pictures that it answers best about."""

    @field_validator("answers", mode="before")
    @classmethod
    def _published(cls, value: Any) -> Any:
        return [answer or "" for answer in vocabularies.answers()] if value == "vqav2" else value

    @model_validator(mode="after")
    def _layers_read_what_was_found(self) -> AnswerConfig:
        if self.layers and not self.masked_latents:
            raise ValueError("layers of the head's own read the latent queries of segmentation: masked_latents must be true")
        return self


class AnswerHead(nn.Module):
    """Tokens of its own, one for each place of a question, and a classifier of the token at the question's end.

    Args:
        width: size C of decoder tokens.
        length: longest question in tokens.
        heads, hidden: of its own layers, if it has any.
    """

    def __init__(self, config: AnswerConfig, width: int, length: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.config = config
        self.query_content = nn.Embedding(length, width)
        self.reader = Reader(config.layers, width, heads, hidden) if config.layers else None
        self.classifier = nn.Sequential(
            nn.Linear(width, 2 * width), nn.LayerNorm(2 * width), nn.GELU(), nn.Linear(2 * width, len(config.answers))
        )
        for layer in self.classifier:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, answers) of the token at the end of each question (B, C), behind a LayerNorm."""
        return self.classifier(tokens)


class Reader(nn.Module):
    """Transformer layers in which the words of questions look at what the latent queries found, and at each other.

    Two things are given, since from rewards for answers alone they are learnt slowly: how alike each word is to what each query
    found, as a class name would be compared with it, adds to the attention; and heads differ in how far back they look (ALiBi,
    Press et al. 2022), so that the two things of a comparison are told apart.

    Args:
        layers, heads, hidden: as of the decoder.
        width: size C of decoder tokens.
    """

    def __init__(self, layers: int, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.inside = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))
        self.place = nn.Sequential(Mlp(_PLACE, width, width), nn.LayerNorm(width))
        self.count = nn.Linear(1, width)
        self.slopes: Tensor
        self.gain = nn.Parameter(torch.full((layers,), _GAIN))
        self.layers = nn.ModuleList(DecoderLayer(width, heads, hidden) for _ in range(layers))
        initialise_transformer(self.layers)
        self.register_buffer("slopes", 1.5 * 3.0 ** -torch.arange(heads), persistent=False)

    def found(self, outputs: QueryOutputs, mask_features: Float[Tensor, "B C h w"]) -> Found:
        """What N latent queries of B images found: tokens (B, N, C) and meanings (B, N, D).

        What they mean and where masks lie is read off mask features (B, C, h, w), and teaches neither.
        """
        dtype = self.gain.dtype  # the head stays precise where all else is halved
        masks = outputs.masks(mask_features).detach().to(dtype).sigmoid()
        weights = masks.flatten(2) / masks.flatten(2).sum(dim=2, keepdim=True).clamp(min=1e-6)
        inside = weights @ mask_features.flatten(2).transpose(1, 2).to(dtype)
        tokens = outputs.tokens.to(dtype) + self.inside(inside) + self.place(_places(masks))
        return Found(tokens, F.normalize(outputs.semantic.detach().to(dtype), dim=-1))

    def forward(self, words: Float[Tensor, "R T C"], meanings: Float[Tensor, "R T D"], found: Found) -> Float[Tensor, "R T C"]:
        """Tokens (R, T, C) of R questions, R / B about each image, those about the first image first.

        Args:
            words: (R, T, C), as the text encoder reads them in their question.
            meanings: (R, T, D), unit vectors of the words by themselves.
        """
        rows, length = words.shape[:2]
        images = len(found.tokens)
        alike = meanings.reshape(images, -1, meanings.shape[-1]) @ found.meanings.transpose(1, 2)  # (B, R / B · T, N)
        how_many = (_GAIN * (alike - 0.5)).sigmoid().sum(dim=-1, keepdim=True)
        together = words.reshape(images, rows // images * length, -1) + self.count(how_many)
        earlier, still = self._earlier(length, words), torch.zeros_like(words)
        for layer, gain in zip(self.layers, self.gain, strict=True):
            assert isinstance(layer, DecoderLayer)
            looked = layer.cross_attend(together, still.reshape(together.shape), found.tokens, found.tokens, gain * alike)
            together = layer.self_attend(looked.reshape(words.shape), still, earlier).reshape(together.shape)
        return together.reshape(words.shape)

    def _earlier(self, length: int, like: Tensor) -> Tensor:
        """What is added to attention among a question's T words, (1, heads, T, T): they see themselves and earlier ones."""
        places = torch.arange(length, device=like.device)
        back = (places[:, None] - places).to(like.dtype)
        return (-self.slopes[:, None, None].to(like.dtype) * back).masked_fill(back < 0, -torch.inf)[None]


@dataclass(frozen=True)
class Found:
    """What latent queries of B images found."""

    tokens: Float[Tensor, "B N C"]
    meanings: Float[Tensor, "B N D"]  # unit vectors in the space of images and texts


def _places(masks: Float[Tensor, "B N h w"]) -> Float[Tensor, "B N P"]:
    """Middle, spread and size of soft masks (B, N, h, w), as shares of the image brought to numbers around ±1: (B, N, 5)."""
    total = masks.sum(dim=(2, 3)).clamp(min=1e-6)
    numbers = []
    for along, across in ((3, 2), (2, 3)):
        share = masks.sum(dim=across) / total[..., None]
        steps = torch.linspace(0, 1, masks.shape[along], device=masks.device, dtype=masks.dtype)
        middle = share @ steps
        spread = (share * (steps - middle[..., None]).square()).sum(dim=-1).sqrt()
        numbers += [5 * (middle - 0.5), 10 * spread - 1.5]
    return torch.stack([*numbers, 6 * masks.mean(dim=(2, 3)).sqrt() - 1.8], dim=-1)
