"""Image–text retrieval: the image token and the caption's vector meet in one space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder.config import Config
from xdecoder.heads import Prediction
from xdecoder.language.encoder import Texts
from xdecoder.losses.contrastive import symmetric_contrast, word_contrast
from xdecoder.model import Features, XDecoder
from xdecoder.tasks.task import Prompt, TextReader, captions_of
from xdecoder.types import Batch, RetrievalResult


class RetrievalConfig(Config):
    """Weights of the terms, and which views of a picture are compared."""

    weight: float = 2.0
    """Weight of the contrast with the decoder's image token."""
    word_factor: float = 0.5
    """Share of the fine contrast of queries with single words."""
    backbone_weight: float = 8.0
    """Weight of the contrast with the mean of the backbone's coarsest map."""
    layers: int = 3
    """Predictions that are supervised, counted from the last."""
    backbone_view: bool = True
    """Compare the mean of both cosines when retrieving (published); False: the decoder's alone."""

    def build(self) -> Retrieval:
        return Retrieval(self)


@dataclass(frozen=True)
class PairPrompt(Prompt):
    texts: Texts | None = None
    same: Tensor | None = None      # (B, B) bool: captions of equal wording


class Retrieval:
    """Contrast over the batch of pairs."""

    name = "retrieval"

    def __init__(self, config: RetrievalConfig) -> None:
        self.config = config

    def prompt(self, model: XDecoder, batch: Batch, texts: TextReader) -> PairPrompt:
        captions = captions_of(batch)
        read = texts(captions)
        same = torch.tensor([[a == b for b in captions] for a in captions], device=read.vectors.device)
        return PairPrompt(texts=read, same=same)

    def loss(
        self, model: XDecoder, features: Features, layers: Sequence[Prediction], prompt: PairPrompt, batch: Batch
    ) -> dict[str, Tensor]:
        texts, same, scale = prompt.texts, prompt.same, model.language.logit_scale
        assert texts is not None and same is not None
        layers = layers[: self.config.layers]
        whole = torch.stack([symmetric_contrast(x.image.semantic[:, 0], texts.vectors, scale, same) for x in layers])
        # Published quirk: the word→image part is a mean over words that are weighted already, so it all but vanishes.
        twice = model.config.published_quirks
        fine = torch.stack([word_contrast(x.object.semantic, texts.tokens, texts.present, scale, twice) for x in layers])
        return {
            "pair": self.config.weight * whole,
            "word": self.config.weight * self.config.word_factor * fine,
            "backbone": self.config.backbone_weight * symmetric_contrast(features.pooled, texts.vectors, scale, same),
        }

    def predict(self, model: XDecoder, features: Features, batch: Batch) -> list[RetrievalResult]:
        views = [model.decode(features)[-1].image.semantic[:, 0]]
        if self.config.backbone_view:
            views.append(features.pooled)
        images = F.normalize(torch.stack(views, dim=1).float(), dim=-1)
        results = []
        for image, sample in zip(images, batch.samples, strict=True):
            vectors = model.language.encode(sample.captions).vectors.float()
            results.append(RetrievalResult(image, F.normalize(vectors, dim=-1)))
        return results
