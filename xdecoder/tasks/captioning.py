"""Captioning: caption tokens look at the picture, at the latent queries and at earlier words, and name the next word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder.config import parse
from xdecoder.decoder.attention import TokenGroup
from xdecoder.decoder.generation import GenerationConfig, generate
from xdecoder.decoder.heads import Prediction
from xdecoder.language.encoder import Texts
from xdecoder.losses.captioning import next_word_loss
from xdecoder.losses.context import StepContext
from xdecoder.model import Encoded, XDecoder
from xdecoder.network import Prompt, TextReader
from xdecoder.tasks.descriptor import Descriptor
from xdecoder.tasks.segmentation import to_padded
from xdecoder.tasks.task import captions_of
from xdecoder.types import Batch, CaptionResult

DESCRIPTOR = Descriptor(
    name="captioning",
    needs="captions",
    result=CaptionResult,
    evaluators=("captioning", "attributes"),
    takes=("captions",),
    look="square",
    submission="captions.json",
    shows="What the network says of a picture, beside one of the sentences that describe it in the data.",
    score="Scored by ROUGE-L of the caption.",
)


class CaptioningConfig(GenerationConfig):
    """Weight of the loss, and how captions are written."""

    descriptor: ClassVar[Descriptor] = DESCRIPTOR

    weight: float = 2.0
    layers: int = 3
    """Predictions that are supervised, counted from the last."""

    def generation(self, **changes: Any) -> GenerationConfig:
        """How captions are written, with some settings changed; raises ConfigError for settings that there cannot be."""
        settings = {name: getattr(self, name) for name in GenerationConfig.model_fields} | changes
        return parse(GenerationConfig, settings, where="generation")

    def build(self) -> Captioning:
        return Captioning(self)


@dataclass(frozen=True)
class CaptionPrompt(Prompt):
    texts: Texts | None = None


class Captioning:
    """Learns the next word under teacher forcing; writes word by word."""

    name = DESCRIPTOR.name
    compares = False
    asks = True

    def __init__(self, config: CaptioningConfig) -> None:
        self.config = config

    def counts(self, model: XDecoder, batch: Batch) -> dict[str, float]:
        return {"words": model.language.tokenizer.words(captions_of(batch))}

    def prompt(self, model: XDecoder, features: Encoded, batch: Batch, texts: TextReader) -> CaptionPrompt:
        read = texts(captions_of(batch))
        return CaptionPrompt((beside_each_other(caption_tokens(model, read), batch.captions),), read)

    def loss(
        self,
        model: XDecoder,
        features: Encoded,
        layers: Sequence[Prediction],
        prompt: CaptionPrompt,
        batch: Batch,
        context: StepContext,
    ) -> dict[str, Tensor]:
        read, words = prompt.texts, model.language.token_embedding.weight
        assert read is not None
        tokens = torch.stack([layer["caption"].word for layer in layers[: self.config.layers]])  # (L, B, R·T, D)
        tokens = tokens.unflatten(2, (batch.captions, -1)).flatten(1, 2)
        loss = next_word_loss(tokens, words, read.ids, read.present, context.totals["captioning/words"])
        return {"word": self.config.weight * loss}

    def predict(self, model: XDecoder, features: Encoded, batch: Batch) -> list[CaptionResult]:
        region = regions_of(batch, features, model.config.published_quirks)
        names = [sample.id for sample in batch.samples]
        return [CaptionResult(text) for text in captions(model, features, self.config, region, names)]


def captions(
    model: XDecoder,
    features: Encoded,
    config: GenerationConfig,
    region: Tensor | None = None,
    images: Sequence[object] = (),
) -> list[str]:
    """A sentence for each of B encoded images.

    Args:
        region: (B, H, W) bool over the padded input, where caption tokens may look; None = everywhere.
        images: what the B are called in messages.
    """
    return [sentence(model, row) for row in generate(model, features, config, region, images)]


def sentence(model: XDecoder, ids: Tensor) -> str:
    """The text of one row of token numbers, shape (n,), up to its first full stop."""
    return model.language.tokenizer.decode(ids).split(".")[0].strip()


def caption_tokens(model: XDecoder, texts: Texts, region: Tensor | None = None) -> TokenGroup:
    """A caption's tokens (B, T, C) for the decoder: content detached, position with gradient plus the learnt place in it.

    Args:
        texts: one a picture.
        region: (B, H, W) bool, where the tokens may look; None = everywhere.
    """
    places = model.decoder.caption_position.weight[: texts.tokens.shape[1]]
    inside = None if region is None else region[:, None]  # the same for all its tokens
    return TokenGroup("caption", texts.tokens.detach(), texts.tokens + places, mask=inside)


def beside_each_other(captions: TokenGroup, count: int) -> TokenGroup:
    """Tokens (B·R, T, C) of R captions of each picture as (B, R·T, C): each of them looks at its own caption only.

    What is seen on a picture is worked out once for all of them.
    """
    if count == 1:
        return captions
    content, position = (x.unflatten(0, (-1, count)).flatten(1, 2) for x in (captions.content, captions.position))
    owner = torch.arange(count, device=content.device).repeat_interleave(captions.content.shape[1])
    return TokenGroup("caption", content, position, owner=owner.expand(len(content), -1))


def regions_of(batch: Batch, features: Encoded, published_quirks: bool = False) -> Tensor | None:
    """Where captions may look, (B, H, W) bool over the padded canvas; None if no sample asks for a region.

    Published quirk: the region is stretched over the padded input as if there were no padding.

    Raises:
        ValueError: naming the picture whose region has another size than it.
    """
    if all(sample.region is None for sample in batch.samples):
        return None
    regions = []
    for sample, size in zip(batch.samples, features.sizes, strict=True):
        region = torch.ones(size, dtype=torch.bool) if sample.region is None else sample.region
        if region.shape != size:
            raise ValueError(
                f"the region of picture {sample.id} of {batch.source} must have the picture's size {size}, "
                f"not {tuple(region.shape)}"
            )
        if published_quirks:
            region = F.interpolate(region[None, None].float(), size=features.padded, mode="nearest")[0, 0] > 0
        regions.append(to_padded(region.to(features.mask.device)[None], features.padded)[0])
    return torch.stack(regions)
