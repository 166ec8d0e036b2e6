"""Answers and their official spelling, by hand from the published rules."""

from __future__ import annotations

import math

import pytest
import torch

from datasets.answers import normalised
from datasets.evaluators import VqaEvaluator
from datasets.evaluators.vqa import accuracy
from xdecoder.types import AnswerResult, Question, Sample


def sample(id: int, *answers: tuple[str, ...]) -> Sample:
    questions = tuple(Question(10 * id + i, "what is it?", given) for i, given in enumerate(answers))
    return Sample(id, torch.zeros(3, 2, 2, dtype=torch.uint8), (2, 2), questions=questions)


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("The two dogs", "2 dogs"),
        ("A", ""),
        ("none", "0"),
        ("Dont know.", "don't know"),
        ("its 3.5", "its 3.5"),
        ("1,000", "1000"),  # a comma between digits lets all marks vanish
        ("x-ray, 1,000", "xray 1000"),
        ("x-ray", "x ray"),  # else a mark without a space beside it becomes one
        ("yes - no", "yes no"),
        ("somebody'd", "somebodyd"),  # the official list has it the wrong way round
        ("couldnt've", "couldn't've"),
        ("shes", "shes"),  # not in the list
        ("." * 40, "." * 8),  # 32 full stops are taken out, no more
    ],
)
def test_spelling(given: str, plain: str) -> None:
    assert normalised(given) == plain


def test_right_to_the_degree_that_people_agree() -> None:
    answers = ("two",) * 3 + ("2",) + ("many",) * 6
    # Leaving out one of the four who said two, three others remain; so it is right for everybody.
    assert accuracy("2", answers) == 1
    assert accuracy("blue", answers) == 0
    # One of ten: for the nine others a third, for the one nothing.
    assert accuracy("red", ("red",) + ("green",) * 9) == pytest.approx(0.9 / 3)
    assert accuracy("red", ("red",) * 2 + ("green",) * 8) == pytest.approx((8 * 2 / 3 + 2 / 3) / 10)
    # Where all said the same nothing is brought to one spelling, but for spaces.
    assert accuracy("2", ("two",) * 10) == 0
    assert accuracy("two\n", ("two ",) * 10) == 1
    assert accuracy("two", ("two",)) == 0  # nobody else said so


def test_kinds_of_answers_have_scores_of_their_own() -> None:
    yes, two = ("yes",) * 10, ("2",) * 10
    facts = ((yes, "yes/no"), (two, "number"), (yes, "yes/no"))
    asked = tuple(Question(number, "what?", given, kind) for number, (given, kind) in enumerate(facts))
    evaluator = VqaEvaluator()
    evaluator.update(AnswerResult(("yes", "3", "no")), Sample(1, torch.zeros(3, 2, 2), (2, 2), questions=asked))
    expected = {"vqa_accuracy": 100 / 3, "vqa_accuracy_number": 0.0, "vqa_accuracy_yes_no": 50.0}
    assert evaluator.compute() == pytest.approx(expected)


def test_the_mean_is_over_questions_and_parts_merge() -> None:
    first, second = VqaEvaluator(), VqaEvaluator()
    yes = ("yes",) * 10
    first.update(AnswerResult(("yes", "no")), sample(1, yes, yes))
    second.update(AnswerResult(("yes",)), sample(2, yes))
    second.merge([first.state(), second.state()])
    assert second.compute() == {"vqa_accuracy": pytest.approx(200 / 3)}
    assert second.per_image() == {1: 50.0, 2: 100.0}


def test_hopeless_input() -> None:
    assert math.isnan(VqaEvaluator().compute()["vqa_accuracy"])
    with pytest.raises(ValueError, match="picture 1: 0 answers to 1 questions"):
        VqaEvaluator().update(AnswerResult(()), sample(1, ("yes",)))
    with pytest.raises(ValueError, match="nobody's answer to question 10 is known"):
        VqaEvaluator().update(AnswerResult(("yes",)), sample(1, ()))
