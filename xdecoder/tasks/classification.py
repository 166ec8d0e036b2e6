"""The class of a whole picture, told by names alone: its vector against theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from xdecoder.config import Config, ConfigError
from xdecoder.decoder.heads import Prediction
from xdecoder.language.encoder import Prompting
from xdecoder.losses.context import StepContext
from xdecoder.model import Encoded, XDecoder
from xdecoder.network import Prompt, TextReader
from xdecoder.tasks.descriptor import Descriptor
from xdecoder.tasks.segmentation import vocabulary_of
from xdecoder.types import Batch, ClassificationResult

DESCRIPTOR = Descriptor(
    name="classification",
    needs="label",
    result=ClassificationResult,
    evaluators=("classification",),
    submission="classes.json",
    shows="The class of a picture beside the likeliest of all.",
    score="Scored by 100 / rank of the picture's class.",
)


class ClassificationConfig(Config):
    """How names are asked; there is nothing to learn, since captions teach what is compared here."""

    descriptor: ClassVar[Descriptor] = DESCRIPTOR

    templates: Literal["published", "none"] = "published"
    """Sentences around class names: the mean over all 81, or the bare name."""
    kept: int = 5
    """Likeliest classes that are told of a picture."""

    def build(self) -> Classification:
        return Classification(self)


class Classification:
    """The nearest class texts of the image token."""

    name = DESCRIPTOR.name
    compares = False
    asks = False

    def __init__(self, config: ClassificationConfig) -> None:
        self.config = config

    def counts(self, model: XDecoder, batch: Batch) -> dict[str, float]:
        raise ConfigError("task 'classification' is only measured; to learn from pictures of classes, list 'retrieval'")

    def prompt(self, model: XDecoder, features: Encoded, batch: Batch, texts: TextReader) -> Prompt:
        return Prompt()

    def loss(
        self,
        model: XDecoder,
        features: Encoded,
        layers: Sequence[Prediction],
        prompt: Prompt,
        batch: Batch,
        context: StepContext,
    ) -> dict[str, Tensor]:
        raise AssertionError("`counts` refuses to train")

    def predict(self, model: XDecoder, features: Encoded, batch: Batch) -> list[ClassificationResult]:
        templates: Prompting = "ensemble" if self.config.templates == "published" else "none"
        classes = model.language.vocabulary(vocabulary_of(batch).prompts, templates).float()
        images = features.latents.outputs.semantic[:, -1].float()
        cosines = F.normalize(images, dim=-1) @ F.normalize(classes, dim=-1).T  # (B, K)
        scores, labels = cosines.topk(min(self.config.kept, len(classes)))
        return [ClassificationResult(*pair) for pair in zip(labels, scores, strict=True)]
