"""Answering questions about a picture: its tokens take a caption's place in the decoder, and the last one chooses an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from xdecoder.config import Config, ConfigError
from xdecoder.decoder.attention import TokenGroup
from xdecoder.decoder.heads import AnswerHead, Prediction
from xdecoder.language.encoder import Texts
from xdecoder.losses.context import StepContext
from xdecoder.model import Encoded, XDecoder
from xdecoder.network import Prompt, TextReader
from xdecoder.tasks.descriptor import Descriptor
from xdecoder.types import AnswerResult, Batch

DESCRIPTOR = Descriptor(
    name="vqa",
    needs="questions",
    evaluators=("vqa",),
    look="question",
    submission="answers",
    shows="Questions about a picture, what the network answers, and what people said.",
    score="Scored by the mean accuracy of the answers.",
)


class VqaConfig(Config):
    """Nothing is to be set: the answers are those of the network's head."""

    descriptor: ClassVar[Descriptor] = DESCRIPTOR

    def build(self) -> Vqa:
        return Vqa()


class Vqa:
    """Each question about a picture gets the head's likeliest answer."""

    name = DESCRIPTOR.name
    compares = False
    asks = True

    def prompt(self, model: XDecoder, features: Encoded, batch: Batch, texts: TextReader) -> Prompt:
        return Prompt()

    def counts(self, model: XDecoder, batch: Batch) -> dict[str, float]:
        raise ConfigError("task 'vqa' is only measured; answer heads come with their checkpoint")

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

    def predict(self, model: XDecoder, features: Encoded, batch: Batch) -> list[AnswerResult]:
        head_of(model)
        results = []
        for b, sample in enumerate(batch.samples):
            own = features.of(b)
            questions = (model.language.encode([question.text]) for question in sample.questions)
            results.append(AnswerResult(tuple(answer(model, own, question)[0][0] for question in questions)))
        return results


def head_of(model: XDecoder) -> AnswerHead:
    """The network's answer head; raises ValueError if it has none."""
    if model.answers is None:
        raise ValueError("this network cannot answer questions: its checkpoint holds no answer head (model.answers)")
    return model.answers


def answer(model: XDecoder, features: Encoded, questions: Texts) -> list[tuple[str, float]]:
    """The likeliest answer to one question about each encoded image, and how likely it is.

    Content of the tokens is the head's own; where in the question they stand, and what is asked there, is their position.
    """
    head, decoder = head_of(model), model.decoder
    length = questions.tokens.shape[1]
    if length > decoder.caption_position.num_embeddings:
        raise ValueError(f"a question may have {decoder.caption_position.num_embeddings} tokens, not {length}")
    content = head.query_content.weight[:length].expand(len(questions), -1, -1)
    position = questions.tokens + decoder.caption_position.weight[:length]
    group = TokenGroup("caption", content, position)
    tokens = features.ask(group, past=features.latents.tokens.continued())["caption"].tokens
    ends = tokens[torch.arange(len(questions), device=tokens.device), questions.lengths - 1]
    likely, best = head(ends.to(head.query_content.weight.dtype)).softmax(dim=-1).max(dim=-1)
    return [(head.config.answers[i], score) for i, score in zip(best.tolist(), likely.tolist(), strict=True)]
