"""Answering questions about an image: one token for each token of the question, the last of which chooses an answer.

In the published network what the tokens are is the head's own, the same for every question; what is asked enters as position,
and so as what attention looks for, never as what it reads. A head may instead have layers of its own (`AnswerConfig.layers`),
whose tokens begin as the words and read what the latent queries found in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from xdecoder.config import Config
from xdecoder.decoder.answers import AnswerHead
from xdecoder.decoder.attention import TokenGroup
from xdecoder.decoder.heads import Prediction
from xdecoder.language.encoder import Texts
from xdecoder.losses.answers import AnswerLoss, answer_loss, soft_targets
from xdecoder.losses.context import StepContext
from xdecoder.model import Encoded, XDecoder
from xdecoder.network import Prompt, TextReader, check_finite
from xdecoder.tasks.descriptor import Descriptor
from xdecoder.types import AnswerResult, Batch, Question

DESCRIPTOR = Descriptor(
    name="vqa",
    needs="questions",
    result=AnswerResult,
    evaluators=("vqa",),
    look="question",
    submission="answers.json",
    shows="Questions about a picture, what the network answers, and what people said.",
    score="Scored by the mean accuracy of the answers.",
)


class VqaConfig(Config):
    """How answers are learnt; which there are is the network's (`model.answers`)."""

    weight: float = Field(1.0, ge=0)
    loss: AnswerLoss = "each"
    questions: int = Field(1, ge=1)
    """Of those about an image, how many are learnt from at a time; they share its latent queries and do not see each other."""

    descriptor: ClassVar[Descriptor] = DESCRIPTOR

    def build(self) -> Vqa:
        return Vqa(self)


@dataclass(frozen=True)
class QuestionPrompt(Prompt):
    texts: Texts | None = None  # of the first image, then of the second …


class Answered(NamedTuple):
    text: str
    score: float  # 0…1: how likely, of all answers


class Vqa:
    """Learns what people answered to some questions about each image; answers all questions about it."""

    name = DESCRIPTOR.name
    compares = False
    asks = True

    def __init__(self, config: VqaConfig) -> None:
        self.config = config

    def counts(self, model: XDecoder, batch: Batch) -> dict[str, float]:
        return {"questions": int(self._targets(model, batch).any(dim=1).sum())}

    def prompt(self, model: XDecoder, features: Encoded, batch: Batch, texts: TextReader) -> QuestionPrompt:
        read = texts([question.text for question in self._questions(batch)])
        if head_of(model).reader is not None:
            return QuestionPrompt((), read)
        group = question_tokens(model, read)
        shape = (len(batch), self.config.questions, *group.content.shape[1:])
        owner = torch.arange(self.config.questions, device=read.tokens.device).repeat_interleave(shape[2])
        beside = TokenGroup(
            "question",
            group.content.reshape(shape).flatten(1, 2),
            group.position.reshape(shape).flatten(1, 2),
            owner=owner.expand(len(batch), -1),
        )
        return QuestionPrompt((beside,), read)

    def loss(
        self,
        model: XDecoder,
        features: Encoded,
        layers: Sequence[Prediction],
        prompt: QuestionPrompt,
        batch: Batch,
        context: StepContext,
    ) -> dict[str, Tensor]:
        """Of the last layer alone."""
        assert prompt.texts is not None
        head = head_of(model)
        joined = head.reader is None
        tokens = layers[0]["question"].tokens if joined else read_on(model, prompt.texts, layers[0], features)
        one_by_one = tokens.reshape(len(prompt.texts), -1, tokens.shape[-1])
        logits = head(at_the_end(one_by_one, prompt.texts))
        targets = self._targets(model, batch).to(logits.device)
        return {"answer": self.config.weight * answer_loss(logits, targets, context.totals["vqa/questions"], self.config.loss)}

    def _targets(self, model: XDecoder, batch: Batch) -> Tensor:
        """How right each answer is to each question, (B · questions, A)."""
        answers = head_of(model).config.answers
        return soft_targets([question.answers for question in self._questions(batch)], answers)

    def _questions(self, batch: Batch) -> list[Question]:
        """So many questions about each image; where it has fewer, some are empty, have no answer and teach nothing."""
        asked: list[Question] = []
        for sample in batch.samples:
            if not sample.questions:
                raise ValueError(f"picture {sample.id} of {batch.source} has no question, which task 'vqa' needs")
            some = sample.questions[: self.config.questions]
            asked += [*some, *[Question("", "")] * (self.config.questions - len(some))]
        return asked

    def predict(self, model: XDecoder, features: Encoded, batch: Batch) -> list[AnswerResult]:
        head_of(model)
        results = []
        for b, sample in enumerate(batch.samples):
            texts = tuple(question.text for question in sample.questions)
            found = answer(model, features.of(b), model.language.encode(texts), [sample.id]) if texts else []
            results.append(AnswerResult(tuple(each.text for each in found)))
        return results


def head_of(model: XDecoder) -> AnswerHead:
    """The network's answer head; raises ValueError if it has none."""
    if model.answers is None:
        raise ValueError("this network cannot answer questions: its checkpoint holds no answer head (model.answers)")
    return model.answers


def question_tokens(model: XDecoder, questions: Texts) -> TokenGroup:
    """A question's tokens (Q, n, C) for the decoder; raises ValueError for one that is too long."""
    return TokenGroup("question", _own_tokens(head_of(model), questions), questions.tokens)


def read_on(model: XDecoder, questions: Texts, last: Prediction, features: Encoded) -> Tensor:
    """A question's tokens (Q, n, C) behind the head's own layers; raises ValueError for one that is too long.

    Args:
        last: what the latent queries of B images say in the end.
        features: of these.
    """
    head = head_of(model)
    assert head.reader is not None
    words = _own_tokens(head, questions) + questions.tokens
    meanings = model.language.meanings(questions.ids)
    found = head.reader.found(last.object_and_image, features.mask)
    return head.reader(words, meanings, found)


def _own_tokens(head: AnswerHead, questions: Texts) -> Tensor:
    length = questions.tokens.shape[1]
    own = head.query_content.weight[:length].expand(len(questions), -1, -1)
    if length > own.shape[1]:
        raise ValueError(f"a question may have {own.shape[1]} tokens, not {length}")
    return own


def at_the_end(tokens: Tensor, questions: Texts) -> Tensor:
    """Of the decoder's tokens (Q, n, C) that at the end of each question (Q, C), which has seen all of it."""
    return tokens[torch.arange(len(questions), device=tokens.device), questions.lengths - 1]


def answer(model: XDecoder, features: Encoded, questions: Texts, images: Sequence[object] = ()) -> list[Answered]:
    """The likeliest answer to each question, which are decoded together behind the latent queries.

    Args:
        features: of B images.
        questions: R about each image, those about the first image first.
        images: what the B are called in messages.

    Raises:
        ValueError: for answers whose scores are not finite.
    """
    head = head_of(model)
    latents = features.latents if head.config.masked_latents else features.unmasked_latents
    if head.reader is not None:
        tokens = read_on(model, questions, latents.predictions[-1], features)
    else:
        past = latents.tokens.continued(rows=len(questions) // len(features))
        tokens = features.ask(question_tokens(model, questions), past=past)["question"].tokens
    end = at_the_end(tokens, questions)
    logits = head(end.to(head.query_content.weight.dtype)).float()
    check_finite(logits.unflatten(0, (len(features), -1)), images, "an answer's score")
    nameless = torch.tensor([not text for text in head.config.answers], device=logits.device)
    likely, best = logits.masked_fill(nameless, -torch.inf).softmax(dim=-1).max(dim=-1)
    return [Answered(head.config.answers[i], score) for i, score in zip(best.tolist(), likely.tolist(), strict=True)]
