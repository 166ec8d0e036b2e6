"""A stage before training together: the text encoder learns words from what a backbone says of whole pictures.

A contrast needs hundreds of pairs a step, which a whole network on two cores cannot afford. But the backbone's pooled map of a
picture is known once for all while the backbone stays as it is. So it is worked out once for each picture and its mirror image,
and text encoder and projection (`backbone_proj`) learn from these vectors in thousands of cheap steps.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from datasets.loader import evaluation_loader
from datasets.streams import DatasetChoice, EvaluationConfig
from trainer.logging import Progress
from trainer.optim import Cosine, build_optimizer, build_schedule
from xdecoder.config import Config
from xdecoder.language.encoder import LanguageEncoder
from xdecoder.losses.contrastive import symmetric_contrast
from xdecoder.model import XDecoder
from xdecoder.resizing import Stretch
from xdecoder.rng import generator

logger = logging.getLogger(__name__)
_AT_ONCE = 256  # captions that are read together when measuring
NEVER_STILL = 1e-3  # least deviation of a feature


class WordsConfig(Config):
    """How words are learnt."""

    sets: tuple[DatasetChoice, ...] = Field(min_length=1)
    """Pictures with captions to learn from."""
    choose_by: DatasetChoice
    """Those that are measured on along the way; the best state is kept."""
    image_size: int = Field(224, gt=0)
    """Pictures are stretched to a square of this side."""
    steps: int = Field(gt=0)
    batch_size: int = Field(512, gt=1)
    """Pictures, each with one of its captions."""
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup_steps: int = Field(50, ge=0)
    learn_texts: bool = True
    """Teach the text encoder and its scale, or the projection alone, which then follows what training together has moved."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Share of a picture's features that are left out of each step."""
    measure_every: int = Field(100, gt=0)
    """Steps between two measurements."""


@dataclass(frozen=True)
class Pooled:
    """What a backbone says of N pictures, V views of each, and their captions."""

    features: Tensor  # (N, V, C)
    captions: tuple[tuple[str, ...], ...]


@torch.inference_mode()
def pooled_features(model: XDecoder, dataset: DatasetChoice, root: Path, size: int, mirrored: bool = True) -> Pooled:
    """The mean of the backbone's coarsest map for each picture of a set, and for its mirror image."""
    entry = EvaluationConfig(dataset=dataset, tasks=("retrieval",), batch_size=32, transform=Stretch(size=size))
    loader = evaluation_loader(entry, root)
    features, captions = [], []
    with Progress(len(loader), "batch of features", 0, True) as progress:
        for batch in loader:
            pixels = model.prepare(batch.images, model.device)
            views = [pixels, pixels.flip(-1)] if mirrored else [pixels]
            features.append(torch.stack([model.backbone(view)[-1].mean(dim=(2, 3)) for view in views], dim=1))
            captions += [sample.captions for sample in batch.samples]
            progress.advance()
    return Pooled(torch.cat(features).clone(), tuple(captions))


class Words(nn.Module):
    """Text encoder and projection, in the space of evened features.

    The network's projection has no offset to take the features' mean away. So evened features are those divided by their
    deviation, without the direction of their mean: a linear map of the plain ones, which `projection` puts back together.
    """

    def __init__(self, model: XDecoder, features: Tensor) -> None:
        super().__init__()
        self.language = model.language
        rows = features.flatten(0, 1)
        deviation = rows.std(dim=0).clamp(min=NEVER_STILL)
        centre = F.normalize(rows.mean(dim=0) / deviation, dim=0)
        self.even = (torch.eye(len(centre)) - torch.outer(centre, centre)) / deviation[:, None]  # (C, C)
        self.to_joint = nn.Linear(len(centre), model.config.decoder.joint_width, bias=False)

    def images(self, features: Tensor) -> Tensor:
        """Vectors (…, D) of plain features (…, C)."""
        return self.to_joint(F.dropout(features @ self.even, self.dropout, self.training))

    dropout = 0.0

    @property
    def projection(self) -> Tensor:
        """The same for plain features: (C, D)."""
        return self.even @ self.to_joint.weight.T


def teach(model: XDecoder, learnt: Sequence[Pooled], chosen_by: Pooled, config: WordsConfig, seed: int = 0) -> dict[str, float]:
    """Teach text encoder and projection, in place; the state that is best on `chosen_by` stays.

    Returns:
        Its IR@1 and TR@1 in percent, the step, and the seconds that all steps took.
    """
    torch.manual_seed(seed)
    features = torch.cat([each.features for each in learnt])
    captions = [texts for each in learnt for texts in each.captions]
    words = Words(model, features)
    words.dropout = config.dropout
    learning = {name: value.requires_grad for name, value in words.language.named_parameters()}
    words.language.requires_grad_(config.learn_texts)
    optimizer = build_optimizer(words, config.learning_rate, config.weight_decay, {})
    schedule = build_schedule(optimizer, Cosine(), config.steps, config.warmup_steps)
    best: dict[str, float] = {}
    kept: Mapping[str, Tensor] = {}
    start = time.monotonic()
    with Progress(config.steps, "step of words", 0, True) as progress:
        for step in range(1, config.steps + 1):
            words.train()
            optimizer.zero_grad()
            loss = _loss(words, features, captions, config.batch_size, generator(seed, f"words {step}"))
            loss.backward()
            nn.utils.clip_grad_norm_(words.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            progress.advance()
            if step % config.measure_every == 0 or step == config.steps:
                found = recall(words, chosen_by)
                progress.tell(f"loss {loss.item():.2f}, {', '.join(f'{name} {value:.1f}' for name, value in found.items())}")
                if not best or sum(found.values()) > best["IR@1"] + best["TR@1"]:
                    best = {**found, "step": float(step)}
                    kept = {name: value.detach().clone() for name, value in words.state_dict().items()}
    words.load_state_dict(kept)
    for name, value in words.language.named_parameters():
        value.requires_grad_(learning[name])
    with torch.no_grad():
        model.backbone_proj.copy_(words.projection)
    model.language.eval()
    return {**best, "seconds": time.monotonic() - start}


def _loss(words: Words, features: Tensor, captions: Sequence[Sequence[str]], size: int, rng: torch.Generator | None) -> Tensor:
    """The contrast of some pictures, a random view of each, with a random caption of each."""
    chosen = torch.randperm(len(features), generator=rng)[:size]
    views = torch.randint(features.shape[1], (len(chosen),), generator=rng)
    draws = torch.rand(len(chosen), generator=rng).tolist()
    texts = [captions[i][int(draw * len(captions[i]))] for i, draw in zip(chosen.tolist(), draws, strict=True)]
    number = {text: i for i, text in enumerate(texts)}
    same = torch.tensor([number[text] for text in texts])
    vectors = words.language.encode(texts).vectors
    images = words.images(features[chosen, views])
    return symmetric_contrast(images, vectors, words.language.logit_scale, same[:, None] == same)


@torch.no_grad()
def recall_of(model: XDecoder, pool: Pooled) -> dict[str, float]:
    """IR@1 and TR@1 in percent of a network's own projection on one pool, by the first view of each picture, (N, V, C)."""
    return _recall(pool.features[:, 0] @ model.backbone_proj, model.language, pool)


@torch.no_grad()
def recall(words: Words, pool: Pooled) -> dict[str, float]:
    """IR@1 and TR@1 in percent on one pool, by the first view of each picture, (N, V, C)."""
    words.eval()
    return _recall(words.images(pool.features[:, 0]), words.language, pool)


def _recall(images: Tensor, language: LanguageEncoder, pool: Pooled) -> dict[str, float]:
    """The same of vectors (N, D)."""
    images = F.normalize(images, dim=-1)
    owner = torch.tensor([i for i, texts in enumerate(pool.captions) for _ in texts])
    every = [text for texts in pool.captions for text in texts]
    parts = [language.encode(every[i : i + _AT_ONCE]).vectors for i in range(0, len(every), _AT_ONCE)]
    cosines = images @ F.normalize(torch.cat(parts), dim=-1).T  # (N, T)
    own_picture = (cosines.argmax(dim=0) == owner).float().mean()
    own_text = (owner[cosines.argmax(dim=1)] == torch.arange(len(images))).float().mean()
    return {"IR@1": 100 * own_picture.item(), "TR@1": 100 * own_text.item()}
