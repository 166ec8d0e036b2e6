"""Tasks that are measured but not learnt: questions with an answer head, and classes of whole pictures."""

from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_batch, tiny_config, tiny_model, tiny_tasks
from xdecoder.config import ConfigError
from xdecoder.decoder.heads import AnswerConfig
from xdecoder.inference.predictor import Predictor
from xdecoder.model import XDecoder
from xdecoder.types import Question


def asked():
    texts = ("is there a dog", "what is on the left")
    batch = tiny_batch()
    samples = tuple(
        replace(sample, questions=tuple(Question(i, text) for i, text in enumerate(texts[: 2 - b])))
        for b, sample in enumerate(batch.samples)
    )
    return replace(batch, samples=samples)


@torch.inference_mode()
def test_every_question_gets_the_predictors_answer():
    torch.manual_seed(0)
    answers = AnswerConfig(answers=("yes", "no", "a star"), image_size=64)
    model = XDecoder(tiny_config().model_copy(update={"answers": answers})).eval()
    torch.nn.init.normal_(model.answers.classifier[-1].weight)
    square = replace(asked().samples[0], image=asked().samples[0].image[:, :, :64])
    (found,) = model.predict(tiny_tasks().build(["vqa"]), replace(asked(), samples=(square,)))["vqa"]
    predictor = Predictor(model)
    assert found.texts == tuple(predictor.answer(square.image, question.text).text for question in square.questions)
    several = model.predict(tiny_tasks().build(["vqa"]), asked())["vqa"]
    assert [len(result.texts) for result in several] == [2, 1]


def test_without_a_head_there_are_no_answers():
    with pytest.raises(ValueError, match="its checkpoint holds no answer head"):
        tiny_model().predict(tiny_tasks().build(["vqa"]), asked())


@pytest.mark.parametrize("name", ["vqa", "classification"])
def test_they_are_not_learnt(name):
    with pytest.raises(ConfigError, match=f"task '{name}' is only measured"):
        tiny_model().losses(tiny_tasks().build([name]), asked())
