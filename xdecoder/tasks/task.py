"""What a task is: which tokens it brings, what it learns from, what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from xdecoder.decoder.attention import TokenGroup
from xdecoder.decoder.heads import Prediction
from xdecoder.language.encoder import LanguageEncoder, Texts
from xdecoder.losses.context import StepContext
from xdecoder.model import Encoded, XDecoder
from xdecoder.rng import generator
from xdecoder.types import Batch


@dataclass(frozen=True)
class Prompt:
    """Tokens for the decoder; a task's own kind adds the texts that its loss compares with."""

    groups: tuple[TokenGroup, ...] = ()


class Task(Protocol):
    """One way of asking the model; one file each.

    What a loss reaches in the network must not depend on the data, so that processes that train together agree on it.
    """

    name: str
    compares: bool
    """Whether the loss compares samples with one another, and so asks for `StepContext.everyone`."""

    asks: bool
    """Whether its prediction decodes tokens of its own, beside the latent queries."""

    def counts(self, model: XDecoder, batch: Batch) -> dict[str, float]:
        """How many there are of each thing that the loss is a mean over; the step's sums are in `StepContext.totals`."""
        ...

    def prompt(self, model: XDecoder, batch: Batch, texts: TextReader) -> Prompt: ...

    def loss(
        self, model: XDecoder, features: Encoded, layers: Sequence[Prediction], prompt: Any, batch: Batch, context: StepContext
    ) -> dict[str, Tensor]:
        """Weighted terms; `layers` runs from the last layer backwards. A term is a scalar, or (L,) over layers."""
        ...

    def predict(self, model: XDecoder, features: Encoded, batch: Batch) -> list[Any]:
        """One result per picture."""
        ...


class TextReader:
    """Encodes texts for one batch; tasks that read the same captions share the work."""

    def __init__(self, language: LanguageEncoder) -> None:
        self._language = language
        self._read: dict[tuple[str, ...], Texts] = {}

    def __call__(self, texts: Sequence[str]) -> Texts:
        key = tuple(texts)
        if key not in self._read:
            self._read[key] = self._language.encode(key)
        return self._read[key]


def losses(model: XDecoder, tasks: Sequence[Task], batch: Batch, context: StepContext | None = None) -> dict[str, Tensor]:
    """Weighted scalar terms of all tasks on one batch; their sum is the loss.

    They are named like "referring/dice/layer0", where layer 0 is the last one.

    Args:
        peers: the other batches of the step, to which these terms are added; None if there are none.
    """
    batch = with_one_caption(batch)
    context = context or StepContext(counts(model, tasks, batch))
    texts = TextReader(model.language)
    features = model.encode(batch.images, [sample.seed for sample in batch.samples])
    prompts = [task.prompt(model, batch, texts) for task in tasks]
    groups = [group for prompt in prompts for group in prompt.groups]
    layers = model.decode(features, groups)[::-1]
    terms: dict[str, Tensor] = {}
    for task, prompt in zip(tasks, prompts, strict=True):
        for term, value in task.loss(model, features, layers, prompt, batch, context).items():
            terms |= _by_layer(f"{task.name}/{term}", value)
    return terms


def counts(model: XDecoder, tasks: Sequence[Task], batch: Batch) -> dict[str, float]:
    """What the tasks' losses are means over, such as "segmentation/masks", in one batch whose captions are drawn."""
    return {f"{task.name}/{name}": n for task in tasks for name, n in task.counts(model, batch).items()}


def predict(model: XDecoder, tasks: Sequence[Task], batch: Batch) -> dict[str, list[Any]]:
    """Results by task name, in the order of the batch's samples; every image is encoded, and its latent
    queries are decoded, once."""
    features = replace(model.encode(batch.images), keep=any(task.asks for task in tasks))
    return {task.name: task.predict(model, features, batch) for task in tasks}


def _by_layer(name: str, value: Tensor) -> dict[str, Tensor]:
    if value.dim() == 0:
        return {name: value}
    return {f"{name}/layer{i}": term for i, term in enumerate(value)}


def with_one_caption(batch: Batch) -> Batch:
    """Each picture keeps one of its captions, drawn at random, and that caption's nouns."""
    samples = []
    for sample in batch.samples:
        if len(sample.captions) > 1:
            drawn = int(torch.randint(len(sample.captions), (), generator=generator(sample.seed, "caption")))
            sample = replace(sample, captions=(sample.captions[drawn],), nouns=sample.nouns[drawn : drawn + 1])
        samples.append(sample)
    return replace(batch, samples=tuple(samples))


def generators_of(batch: Batch, purpose: str, device: torch.device) -> list[torch.Generator | None]:
    """Per picture, what its random numbers for one purpose are drawn from."""
    return [generator(sample.seed, purpose, device) for sample in batch.samples]


def captions_of(batch: Batch) -> list[str]:
    """The one caption of each picture; raises ValueError for a picture that has none."""
    for sample in batch.samples:
        if not sample.captions:
            raise ValueError(f"picture {sample.id} of {batch.source} has no caption, which captioning and retrieval need")
    return [sample.captions[0] for sample in batch.samples]
