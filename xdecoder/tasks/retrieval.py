"""Image–text retrieval: the image token and the caption's vector meet in one space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder.config import Config
from xdecoder.decoder.heads import Prediction
from xdecoder.language.encoder import Texts
from xdecoder.losses.context import StepContext
from xdecoder.losses.contrastive import mean_direction, symmetric_contrast, word_contrast
from xdecoder.model import Encoded, XDecoder
from xdecoder.network import Prompt, TextReader
from xdecoder.tasks.descriptor import Descriptor
from xdecoder.tasks.task import captions_of
from xdecoder.types import Batch, RetrievalResult

DESCRIPTOR = Descriptor(
    name="retrieval",
    needs="texts",
    result=RetrievalResult,
    evaluators=("retrieval",),
    takes=("captions",),
    look="square",
    submission="retrieval.safetensors",
    pooled=True,
    shows="For a caption, the most similar pictures of the pool, best first; the green frame is around the right one.",
    score="Scored by 100 / mean rank of the picture when its own captions are looked for.",
)


class RetrievalConfig(Config):
    """Weights of the terms, and which views of a picture are compared."""

    descriptor: ClassVar[Descriptor] = DESCRIPTOR

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


class Retrieval:
    """Contrast over all pairs of a step."""

    name = DESCRIPTOR.name
    compares = True
    asks = False

    def __init__(self, config: RetrievalConfig) -> None:
        self.config = config

    def counts(self, model: XDecoder, batch: Batch) -> dict[str, float]:
        return {}

    def prompt(self, model: XDecoder, features: Encoded, batch: Batch, texts: TextReader) -> PairPrompt:
        return PairPrompt(texts=texts(captions_of(batch)).every(batch.captions))  # the first of each picture

    def loss(
        self,
        model: XDecoder,
        features: Encoded,
        layers: Sequence[Prediction],
        prompt: PairPrompt,
        batch: Batch,
        context: StepContext,
    ) -> dict[str, Tensor]:
        assert prompt.texts is not None
        layers, everyone = layers[: self.config.layers], context.everyone
        vectors, tokens, present = (everyone(x) for x in (prompt.texts.vectors, prompt.texts.tokens, prompt.texts.present))
        same, scale = (
            _same(context.everyones(captions_of(batch)[:: batch.captions]), vectors.device),
            context.once(model.language.logit_scale),
        )
        whole = [symmetric_contrast(everyone(x["image"].semantic[:, 0]), vectors, scale, same) for x in layers]
        # Published quirk: the word→image part is a mean over words that are weighted already, so it all but vanishes.
        twice = model.config.published_quirks
        fine = [word_contrast(everyone(mean_direction(x["object"].semantic)), tokens, present, scale, twice) for x in layers]
        backbone = symmetric_contrast(everyone(_pooled(features)), vectors, scale, same)
        return {
            "pair": self.config.weight * context.share(torch.stack(whole)),
            "word": self.config.weight * self.config.word_factor * context.share(torch.stack(fine)),
            "backbone": self.config.backbone_weight * context.share(backbone),
        }

    def predict(self, model: XDecoder, features: Encoded, batch: Batch) -> list[RetrievalResult]:
        images = image_vectors(features, self.config.backbone_view)
        results = []
        for image, sample in zip(images, batch.samples, strict=True):
            vectors = model.language.encode(sample.captions).vectors.float()
            results.append(RetrievalResult(image, F.normalize(vectors, dim=-1)))
        return results


def image_vectors(features: Encoded, backbone_view: bool = True) -> Tensor:
    """Unit vectors of B images in the joint space, (B, V, D): the decoder's view and, if asked for, the backbone's."""
    pooled = _pooled(features)
    views = [features.latents.outputs.semantic[:, -1]]
    if backbone_view:
        views.append(pooled)
    return F.normalize(torch.stack(views, dim=1).float(), dim=-1)


def shares(model: XDecoder, cosines: Tensor) -> list[float]:
    """How a network that must choose one of T texts or images would divide its trust, from their similarities (T,)."""
    scale = model.language.logit_scale.detach().exp().clamp(max=100).cpu()
    return [float(share) for share in (scale * cosines).softmax(dim=0)]


def _pooled(features: Encoded) -> Tensor:
    if features.pooled is None:
        raise ValueError("this network has no vector of a whole image to compare with texts; an X-Decoder has")
    return features.pooled


def _same(captions: Sequence[str], device: torch.device) -> Tensor:
    """(B, B) bool: which captions are of equal wording."""
    first: dict[str, int] = {}
    number = torch.tensor([first.setdefault(caption, i) for i, caption in enumerate(captions)], device=device)
    return number[:, None] == number
