"""Questions: answered as the predictor answers, and learnt."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_batch, tiny_config, tiny_model, tiny_tasks
from xdecoder.config import parse
from xdecoder.decoder.answers import AnswerConfig, Found, Reader
from xdecoder.inference.predictor import Predictor
from xdecoder.model import XDecoder, XDecoderConfig
from xdecoder.tasks.vqa import VqaConfig, at_the_end, question_tokens, read_on
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


@pytest.mark.parametrize("settings", [{}, {"masked_latents": False}, {"layers": 2}])
@torch.inference_mode()
def test_every_question_gets_the_predictors_answer(settings: dict[str, object]) -> None:
    model = answering_model(**settings)
    square = replace(asked().samples[0], image=asked().samples[0].image[:, :, :64])
    (found,) = model.predict(tiny_tasks().build(["vqa"]), replace(asked(), samples=(square,)))["vqa"]
    predictor = Predictor(model)
    assert found.texts == tuple(predictor.answer(square.image, question.text).text for question in square.questions)
    several = model.predict(tiny_tasks().build(["vqa"]), asked())["vqa"]
    assert [len(result.texts) for result in several] == [2, 1]


@torch.inference_mode()
def test_answers_that_are_not_finite_name_the_image() -> None:
    model = answering_model()
    assert model.answers is not None
    model.answers.classifier[-1].weight[1] = float("nan")
    with pytest.raises(ValueError, match="image first: an answer's score is not finite"):
        model.predict(tiny_tasks().build(["vqa"]), asked())
    with pytest.raises(ValueError, match="^an answer's score is not finite"):
        Predictor(model).answer(asked().samples[0].image, "is there a dog")


def test_without_a_head_there_are_no_answers() -> None:
    for work in (tiny_model().predict, tiny_model().losses):
        with pytest.raises(ValueError, match="its checkpoint holds no answer head"):
            work(tiny_tasks().build(["vqa"]), asked())


@pytest.mark.parametrize("layers", [0, 2])
@pytest.mark.parametrize("tasks", [["vqa"], ["segmentation", "vqa"]])
def test_the_head_learns_beside_other_tasks(tasks: list[str], layers: int) -> None:
    model = answering_model(layers=layers).train()
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


def test_what_the_published_tokens_are_does_not_depend_on_the_question() -> None:
    published = answering_model()
    texts = published.language.encode(["is there a dog", "what is on the left"])
    tokens = question_tokens(published, texts)
    assert torch.equal(tokens.content[0], tokens.content[1]) and torch.equal(tokens.position, texts.tokens)


@torch.inference_mode()
def test_layers_of_the_heads_own_learn_from_what_they_answer_from() -> None:
    """Training's joint decode, with absent questions, gives the logits that prediction gives one by one."""
    model, task, batch = answering_model(layers=2), VqaConfig(questions=2).build(), asked()
    features = model.encode(batch.images)
    last = model.decode(features)[-1]
    questions = [question.text for sample in batch.samples for question in padded(sample.questions)]
    texts = model.language.encode(questions)
    together = at_the_end(read_on(model, texts, last, features), texts)
    for row, text in enumerate(questions[:3]):
        one, image = model.language.encode([text]), features.of(row // 2)
        alone = at_the_end(read_on(model, one, image.latents.predictions[-1], image), one)
        torch.testing.assert_close(together[row], alone[0], atol=1e-5, rtol=1e-4)
    assert task.prompt(model, features, batch, model.language.encode).groups == (), "nothing joins the decoder"


def test_what_a_word_names_is_counted() -> None:
    """How many queries mean what a word means tells the answer, even where their tokens are the same."""
    torch.manual_seed(0)
    reader = Reader(1, 32, 4, 64)
    meanings = torch.eye(32)[None, :3]
    tokens = torch.randn(1, 1, 32).expand(1, 3, 32)
    with torch.no_grad():
        one = reader(torch.zeros(1, 1, 32), meanings[:, :1], Found(tokens, meanings))
        two = reader(torch.zeros(1, 1, 32), meanings[:, :1], Found(tokens, meanings[:, [0, 0, 2]]))
    assert not torch.allclose(one, two)


def test_layers_of_its_own_want_the_latents_of_segmentation() -> None:
    with pytest.raises(ValueError, match="masked_latents must be true"):
        answering_model(layers=1, masked_latents=False)


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
