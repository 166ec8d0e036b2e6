"""What may be asked of one picture, and how questions that wait together are answered together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from xdecoder.config import Config
from xdecoder.defaults import LEAST_SCORE
from xdecoder.images import ImageLike
from xdecoder.inference.picture import Picture
from xdecoder.inference.predictor import Predictor
from xdecoder.serving.tools import Classes, Cosine, Phrases, Text, Threshold
from xdecoder.tasks import captioning, referring, retrieval, segmentation, vqa
from xdecoder.tasks.descriptor import Descriptor


class SegmentQuestion(Config):
    classes: Classes
    threshold: Threshold = 0.0


class PanopticQuestion(Config):
    things: tuple[Text, ...] = Field((), max_length=200, description="what is counted one by one")
    stuff: tuple[Text, ...] = Field((), max_length=200, description="what is one region a kind")
    threshold: Threshold | None = None


class InstancesQuestion(Config):
    classes: Classes
    threshold: Threshold = LEAST_SCORE


class ReferQuestion(Config):
    phrases: Phrases
    threshold: Cosine | None = None


class CaptionQuestion(Config):
    beams: int = Field(1, ge=1, le=8)


class MatchQuestion(Config):
    texts: list[Text] = Field(min_length=1, max_length=200)


class AnswerQuestion(Config):
    question: Text


Json = dict[str, Any]
Ask = Callable[[Predictor, list[Picture], Any], Sequence[Any]]


def _segment(model: Predictor, images: list[Picture], q: SegmentQuestion) -> Sequence[Any]:
    """Give each pixel one of some classes."""
    return model.segment(images, q.classes, q.threshold)


def _panoptic(model: Predictor, images: list[Picture], q: PanopticQuestion) -> Sequence[Any]:
    """Segment a whole picture: things one by one, and each kind of stuff as one region."""
    return model.panoptic(images, q.things, q.stuff, q.threshold)


def _instances(model: Predictor, images: list[Picture], q: InstancesQuestion) -> Sequence[Any]:
    """Find each thing of some classes."""
    return model.instances(images, q.classes, q.threshold)


def _refer(model: Predictor, images: list[Picture], q: ReferQuestion) -> Sequence[Any]:
    """Find the region that each phrase means, or say that it is not there; the cosine of the two decides."""
    return model.refer(images, q.phrases, q.threshold)


def _caption(model: Predictor, images: list[Picture], q: CaptionQuestion) -> Sequence[Any]:
    """Describe a picture in a sentence."""
    return model.caption(images, beams=q.beams)


def _match(model: Predictor, images: list[Picture], q: MatchQuestion) -> Sequence[Any]:
    """Compare a picture with texts."""
    return model.match(images, q.texts)


def _answer(model: Predictor, images: list[Picture], q: AnswerQuestion) -> Sequence[Any]:
    """Answer a question in a word or two, where the network has an answer head."""
    return model.answer(images, q.question)


def _regions(result: Any) -> Json:
    told: Json = result.to_json()
    return told


@dataclass(frozen=True)
class Endpoint:
    question: type[Config]
    ask: Ask
    told: Callable[[Any], Json]  # an answer as JSON
    task: Descriptor  # which says how the picture is shown to the network


ENDPOINTS: dict[str, Endpoint] = {
    "segment": Endpoint(SegmentQuestion, _segment, _regions, segmentation.DESCRIPTOR),
    "panoptic": Endpoint(PanopticQuestion, _panoptic, _regions, segmentation.DESCRIPTOR),
    "instances": Endpoint(InstancesQuestion, _instances, _regions, segmentation.DESCRIPTOR),
    "refer": Endpoint(ReferQuestion, _refer, _regions, referring.DESCRIPTOR),
    "caption": Endpoint(CaptionQuestion, _caption, lambda text: {"caption": text}, captioning.DESCRIPTOR),
    "match": Endpoint(MatchQuestion, _match, lambda cosines: {"cosines": cosines.tolist()}, retrieval.DESCRIPTOR),
    "answer": Endpoint(AnswerQuestion, _answer, lambda said: {"answer": said.text, "score": said.score}, vqa.DESCRIPTOR),
}


@dataclass(frozen=True)
class Asked:
    """One question that waits."""

    name: str  # of the endpoint
    question: Config
    image: ImageLike  # opened when its turn comes


def answer_together(predictor: Predictor, asked: Sequence[Asked]) -> list[Any]:
    """The predictor's answer to each question, or the exception that says what is wrong with it.

    Pictures are encoded together whatever is asked of them; those that are asked the same are asked as one.
    """
    pictures: dict[int, Picture] = {}
    answers: list[Any] = [None] * len(asked)
    for n, each in enumerate(asked):
        try:
            pictures[n] = predictor.encode(each.image)
        except Exception as error:
            answers[n] = error
    for task in dict.fromkeys(ENDPOINTS[asked[n].name].task for n in pictures):
        numbers = [n for n in pictures if ENDPOINTS[asked[n].name].task == task]
        try:
            predictor.look([pictures[n] for n in numbers], task)
        except Exception as error:
            for n in numbers:
                answers[n] = error
            continue
        groups: dict[tuple[str, str], list[int]] = {}
        for n in numbers:
            groups.setdefault((asked[n].name, asked[n].question.model_dump_json(exclude={"image"})), []).append(n)
        for (name, _), same in groups.items():
            found = _answers(predictor, name, [pictures[n] for n in same], asked[same[0]].question)
            for n, answer in zip(same, found, strict=True):
                answers[n] = answer
    return answers


def _answers(predictor: Predictor, name: str, pictures: list[Picture], question: Config) -> Sequence[Any]:
    try:
        return ENDPOINTS[name].ask(predictor, pictures, question)
    except Exception as error:
        return [error] * len(pictures)
