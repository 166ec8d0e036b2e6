"""Semantic, instance and panoptic segmentation with any vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder import readout
from xdecoder.config import Config
from xdecoder.heads import Prediction
from xdecoder.language.encoder import Prompting
from xdecoder.losses.contrastive import cosine_logits
from xdecoder.losses.masks import mask_losses
from xdecoder.losses.matching import Matches, MatchingConfig, match
from xdecoder.model import Features, XDecoder
from xdecoder.readout import ReadoutConfig
from xdecoder.tasks.task import Prompt, TextReader
from xdecoder.types import Batch, SegmentationResult, Segments, Vocabulary

BACKGROUND = "background"


class SegmentationConfig(Config):
    """Weights of the terms (section 4 of the paper) and the thresholds of the results."""

    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    background_weight: float = 0.1
    """Weight of "no object" in the class loss."""
    layers: int = 10
    """Predictions that are supervised, counted from the last."""
    points: int = 12544
    """Points per mask in the losses."""
    matching: MatchingConfig = MatchingConfig()
    readout: ReadoutConfig = ReadoutConfig()
    templates: Literal["published", "none"] = "published"
    """Sentences around class names: published (one of 81 at random in training, their mean when predicting) or none."""
    learn_texts: bool = True
    """Let the class loss teach the text encoder too (published). One that starts from nothing would first make all names alike
    whose regions cannot be told apart yet, and after that neither side learns; then False leaves it to the other tasks."""

    def build(self) -> Segmentation:
        return Segmentation(self)


@dataclass(frozen=True)
class VocabularyPrompt(Prompt):
    classes: Tensor | None = None    # (K + 1, D) class texts, "background" last


class Segmentation:
    """Object queries compete for annotated regions; a query's class is the nearest class text."""

    name = "segmentation"

    def __init__(self, config: SegmentationConfig) -> None:
        self.config = config

    def prompt(self, model: XDecoder, batch: Batch, texts: TextReader) -> VocabularyPrompt:
        names = (*vocabulary_of(batch).names, BACKGROUND)
        templates: Prompting = "random" if self.config.templates == "published" else "none"
        classes = model.language.vocabulary(names, templates)
        return VocabularyPrompt(classes=classes if self.config.learn_texts else classes.detach())

    def loss(
        self, model: XDecoder, features: Features, layers: Sequence[Prediction], prompt: VocabularyPrompt, batch: Batch
    ) -> dict[str, Tensor]:
        assert prompt.classes is not None
        layers = layers[: self.config.layers]
        segments = segments_of(batch)
        masks = [to_canvas(s.masks, features.padded) for s in segments]
        semantic = torch.stack([layer.object.semantic for layer in layers])             # (L, B, Q, D)
        embeddings = torch.stack([layer.object.mask for layer in layers])               # (L, B, Q, C)
        logits = cosine_logits(semantic, prompt.classes, model.language.logit_scale)    # (L, B, Q, K + 1)
        likely = logits.detach().softmax(-1)
        scores = [likely[:, b][..., s.labels] for b, s in enumerate(segments)]
        matches = match(scores, embeddings, features.mask, masks, self.config.matching)
        bce, dice = mask_losses(matches, embeddings, features.mask, masks, self.config.points)
        return {
            "class": self.config.class_weight * self._class_loss(logits, matches, segments),
            "mask": self.config.mask_weight * bce,
            "dice": self.config.dice_weight * dice,
        }

    def _class_loss(self, logits: Tensor, matches: Matches, segments: Sequence[Segments]) -> Tensor:
        """Cross-entropy per layer, (L,); queries without a match should say background."""
        background = logits.shape[-1] - 1
        wanted = torch.full(logits.shape[:-1], background, device=logits.device)
        for b, picture in enumerate(segments):
            mine = matches.picture == b
            wanted[matches.layer[mine], b, matches.query[mine]] = picture.labels[matches.target[mine]]
        weight = torch.ones(background + 1, device=logits.device)
        weight[background] = self.config.background_weight
        return torch.stack([
            F.cross_entropy(layer.flatten(0, 1), target.flatten(), weight) for layer, target in zip(logits, wanted, strict=True)
        ])                                                                              # fmt: skip

    def predict(self, model: XDecoder, features: Features, batch: Batch) -> list[SegmentationResult]:
        vocabulary = vocabulary_of(batch)
        templates: Prompting = "ensemble" if self.config.templates == "published" else "none"
        classes = model.language.vocabulary((*vocabulary.names, BACKGROUND), templates)
        rows = model.decode(features)[-1].latent()
        probabilities = cosine_logits(rows.semantic, classes, model.language.logit_scale).softmax(-1)
        is_thing = torch.tensor(vocabulary.is_thing, device=probabilities.device)
        results = []
        for b, (mask, sample) in enumerate(zip(rows.masks(features.mask), batch.samples, strict=True)):
            masks = readout.resize_masks(mask, features.padded, features.sizes[b], sample.output_size)
            results.append(
                SegmentationResult(
                    semantic=readout.semantic_map(probabilities[b], masks),
                    instances=readout.instances(probabilities[b], masks, is_thing, self.config.readout.detections),
                    panoptic=readout.panoptic(probabilities[b], masks, is_thing, self.config.readout),
                )
            )
        return results


def vocabulary_of(batch: Batch) -> Vocabulary:
    if batch.vocabulary is None:
        raise ValueError(f"data set {batch.source} has no class names, which segmentation needs")
    return batch.vocabulary


def segments_of(batch: Batch) -> list[Segments]:
    for sample in batch.samples:
        if sample.segments is None:
            raise ValueError(f"picture {sample.id} of {batch.source} has no annotated regions, which segmentation learns from")
    return [sample.segments for sample in batch.samples if sample.segments is not None]


def to_canvas(masks: Tensor, padded: tuple[int, int]) -> Tensor:
    """Masks (N, h, w) padded right and below with False to the canvas on which the batch was encoded."""
    height, width = padded
    return F.pad(masks, (0, width - masks.shape[-1], 0, height - masks.shape[-2]))
