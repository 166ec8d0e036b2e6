"""Questions: answered as the predictor answers, and learnt."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_batch, tiny_config, tiny_model, tiny_tasks
from xdecoder.config import parse
from xdecoder.decoder.heads import AnswerConfig
from xdecoder.inference.predictor import Predictor
from xdecoder.model import XDecoder, XDecoderConfig
from xdecoder.tasks.vqa import VqaConfig, question_tokens
from xdecoder.types import Batch, Question


def answering_model(**settings: object) -> XDecoder:
    torch.manual_seed(0)
    answers = AnswerConfig.model_validate({"answers": ("yes", "no", "a star"), "image_size": 64, **settings})
    model = XDecoder(tiny_config().model_copy(update={"answers": answers})).eval()
    assert model.answers is not None
    torch.nn.init.normal_(model.answers.classifier[-1].weight)
    return model


def asked() -> Batch:
    texts = ("is there a dog", "what is on the left of it")
    samples = tuple(
        replace(sample, questions=tuple(Question(i, text, ("yes",) * 10) for i, text in enumerate(texts[: 2 - b])))
        for b, sample in enumerate(tiny_batch().samples)
    )
    return replace(tiny_batch(), samples=samples)


@pytest.mark.parametrize("masked", [True, False])
@torch.inference_mode()
def test_every_question_gets_the_predictors_answer(masked: bool) -> None:
    model = answering_model(masked_latents=masked)
    square = replace(asked().samples[0], image=asked().samples[0].image[:, :, :64])
    (found,) = model.predict(tiny_tasks().build(["vqa"]), replace(asked(), samples=(square,)))["vqa"]
    predictor = Predictor(model)
    assert found.texts == tuple(predictor.answer(square.image, question.text).text for question in square.questions)
    several = model.predict(tiny_tasks().build(["vqa"]), asked())["vqa"]
    assert [len(result.texts) for result in several] == [2, 1]


def test_without_a_head_there_are_no_answers() -> None:
    for work in (tiny_model().predict, tiny_model().losses):
        with pytest.raises(ValueError, match="its checkpoint holds no answer head"):
            work(tiny_tasks().build(["vqa"]), asked())


@pytest.mark.parametrize("tasks", [["vqa"], ["segmentation", "vqa"]])
def test_the_head_learns_beside_other_tasks(tasks: list[str]) -> None:
    model = answering_model().train()
    terms = model.losses(tiny_tasks().build(tasks), asked())
    terms["vqa/answer"].backward()
    assert model.answers is not None
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.answers.parameters())
    assert model.language.token_embedding.weight.grad is not None, "what is asked is learnt to be read"


def test_learning_sees_what_answering_sees() -> None:
    """The logits of the joint decode are those of the decode behind kept latent queries."""
    for masked in (True, False):
        model = answering_model(masked_latents=masked)
        task, batch = VqaConfig(questions=2).build(), asked()
        features = model.encode(batch.images)
        prompt = task.prompt(model, features, batch, model.language.encode)
        together = model.decode(features, prompt.groups, model._table([task]))[-1]["question"].tokens
        texts = model.language.encode([question.text for sample in batch.samples for question in padded(sample.questions)])
        latents = features.latents if masked else features.unmasked_latents
        group = question_tokens(model, texts)
        behind = features.ask(group, past=latents.tokens.continued(rows=2))["question"].tokens
        torch.testing.assert_close(together.reshape(behind.shape), behind, atol=1e-5, rtol=1e-5)


def padded(questions: tuple[Question, ...]) -> tuple[Question, ...]:
    return (*questions, *[Question("", "")] * (2 - len(questions)))


def test_words_are_positions_unless_the_head_reads_them() -> None:
    """What is asked is no part of what the published tokens are."""
    published, reading = answering_model(), answering_model(reads_words=True)
    texts = published.language.encode(["is there a dog", "what is on the left"])
    same, other = question_tokens(published, texts), question_tokens(reading, texts)
    assert torch.equal(same.content[0], same.content[1]) and torch.equal(same.position, texts.tokens)
    torch.testing.assert_close(other.content, same.content + texts.tokens)
    predictor = Predictor(reading)
    pixels = asked().samples[0].image
    scores = {predictor.answer(pixels, text).score for text in ("is there a dog", "what is on the left")}
    assert len(scores) == 2


def test_unmasked_latents_want_a_stream_of_their_own() -> None:
    model = answering_model(masked_latents=False)
    with pytest.raises(ValueError, match="trained in a stream of their own; give task 'vqa' an entry of data.train to itself"):
        model.losses(tiny_tasks().build(["segmentation", "vqa"]), asked())


def test_what_cannot_be_asked() -> None:
    model = answering_model()
    with pytest.raises(ValueError, match="picture first of tiny has no question, which task 'vqa' needs"):
        model.losses(tiny_tasks().build(["vqa"]), tiny_batch())
    with pytest.raises(ValueError, match="at least 2 items"):
        parse(XDecoderConfig, {**tiny_config().model_dump(), "answers": {"answers": ["yes"]}})
