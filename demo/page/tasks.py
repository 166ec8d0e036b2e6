"""What can be asked of one picture in the page: which fields it reads, what it asks, and how its answer is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from demo.page.replies import Reply, seen
from xdecoder.defaults import LEAST_SCORE
from xdecoder.files import lines_in as lines_of
from xdecoder.images import ImageLike
from xdecoder.inference.picture import Picture
from xdecoder.inference.predictor import Predictor
from xdecoder.inference.results import Answer, Drawable, Regions
from xdecoder.serving import questions
from xdecoder.serving.questions import Asked
from xdecoder.tasks import captioning, referring, retrieval, segmentation, vqa
from xdecoder.tasks.descriptor import Descriptor
from xdecoder.tasks.retrieval import shares

MAX_TEXTS = {"class name": 200, "phrase": 20, "sentence": 50}
MAX_LENGTH = 200  # characters of one text
MAX_LETTERS = 4000  # of all texts of a question: what an answer costs grows with them


@dataclass(frozen=True)
class Texts:
    """What stands in the page's fields."""

    things: str = ""
    stuff: str = ""
    classes: str = ""
    phrases: str = ""
    sentences: str = ""
    question: str = ""
    threshold: float | None = None  # of segments; None = as the network was measured
    score: float = LEAST_SCORE  # of instances
    cosine: float | None = None  # of a phrase and its region; None = what was fitted to the network


@dataclass(frozen=True)
class Task:
    """One of them.

    Args:
        label: in the page.
        fields: of `Texts` that it reads.
        needs: what a network must be able to do.
        ask: the question; raises ValueError for texts that are missing or too many.
        show: the answer, as the page shows it.
    """

    label: str
    fields: tuple[str, ...]
    needs: Descriptor
    ask: Callable[[ImageLike, Texts], Asked | Callable[[Predictor], Any]]
    show: Callable[[Any, Predictor, Texts], Reply]

    def available(self, network: Predictor) -> bool:
        """Whether a network can be asked this; questions need one that was taught to answer them."""
        try:
            model = network.able(self.needs)
            if self.needs is vqa.DESCRIPTOR:
                vqa.head_of(model)
        except ValueError:
            return False
        return True


def _panoptic(image: ImageLike, texts: Texts) -> Asked:
    """Things one by one, and stuff."""
    things, stuff = tuple(names_in(texts.things)), tuple(names_in(texts.stuff))
    names_of(things + stuff)
    return Asked("panoptic", questions.PanopticQuestion(things=things, stuff=stuff, threshold=texts.threshold), image)


def _semantic(image: ImageLike, texts: Texts) -> Asked:
    """A class for each pixel."""
    return Asked("segment", questions.SegmentQuestion(classes=names_of(names_in(texts.classes))), image)


def _instances(image: ImageLike, texts: Texts) -> Asked:
    """Each thing of some classes, with a score."""
    classes = names_of(names_in(texts.things))
    return Asked("instances", questions.InstancesQuestion(classes=classes, threshold=texts.score), image)


def _refer(image: ImageLike, texts: Texts) -> Asked:
    """What each phrase means."""
    return Asked("refer", questions.ReferQuestion(phrases=lines_in(texts.phrases, "phrase"), threshold=texts.cosine), image)


def _caption(image: ImageLike, texts: Texts) -> Asked:
    """A sentence about the picture."""
    return Asked("caption", questions.CaptionQuestion(), image)


def _caption_region(image: ImageLike, texts: Texts) -> Callable[[Predictor], tuple[Regions, str]]:
    """A sentence about what the first phrase means."""
    phrase = lines_in(texts.phrases, "phrase")[0]

    def ask(network: Predictor) -> tuple[Regions, str]:
        picture: Picture = network.encode(image)
        found = picture.refer([phrase], texts.cosine)
        return found, picture.caption(region=found.masks[0]) if found.masks[0].any() else ""

    return ask


def _match(image: ImageLike, texts: Texts) -> Asked:
    """How well each sentence fits the picture."""
    return Asked("match", questions.MatchQuestion(texts=lines_in(texts.sentences, "sentence")), image)


def _answer(image: ImageLike, texts: Texts) -> Asked:
    """An answer to a question."""
    if not texts.question.strip():
        raise ValueError("Write a question first.")
    (question,) = _checked([" ".join(texts.question.split())], "sentence")
    return Asked("answer", questions.AnswerQuestion(question=question), image)


def _regions(result: Drawable, network: Predictor, texts: Texts) -> Reply:
    return seen(result)


def _sentence(sentence: str, network: Predictor, texts: Texts) -> Reply:
    return Reply(f"“{sentence}”" if sentence else "The network found no words.", {"caption": sentence})


def _region_sentence(answer: tuple[Regions, str], network: Predictor, texts: Texts) -> Reply:
    regions, sentence = answer
    reply = seen(regions)
    return reply.headed(f"“{sentence}”" if sentence else "The network found no words.", caption=sentence)


def _matched(cosines: Any, network: Predictor, texts: Texts) -> Reply:
    sentences = lines_in(texts.sentences, "sentence")
    trust = shares(network.model, cosines)
    ranked = sorted(zip(sentences, trust, cosines.tolist(), strict=True), key=lambda row: -row[1])
    content = {"texts": [{"text": text, "cosine": cosine, "share": share} for text, share, cosine in ranked]}
    return Reply(f"Best: “{ranked[0][0]}”", content, scores=tuple((text, share) for text, share, _ in ranked))


def _answered(said: Answer, network: Predictor, texts: Texts) -> Reply:
    content = {"question": texts.question, "answer": said.text, "score": said.score}
    return Reply(f"“{said.text}”", content, scores=((said.text, said.score),))


TASKS: dict[str, Task] = {
    "panoptic": Task("Panoptic", ("things", "stuff", "threshold"), segmentation.DESCRIPTOR, _panoptic, _regions),
    "semantic": Task("Semantic", ("classes",), segmentation.DESCRIPTOR, _semantic, _regions),
    "instances": Task("Instances", ("things", "score"), segmentation.DESCRIPTOR, _instances, _regions),
    "refer": Task("Referring", ("phrases", "cosine"), referring.DESCRIPTOR, _refer, _regions),
    "caption": Task("Caption", (), captioning.DESCRIPTOR, _caption, _sentence),
    "caption_region": Task(
        "Caption of a region", ("phrases", "cosine"), captioning.DESCRIPTOR, _caption_region, _region_sentence
    ),
    "match": Task("Match texts", ("sentences",), retrieval.DESCRIPTOR, _match, _matched),
    "answer": Task("Question", ("question",), vqa.DESCRIPTOR, _answer, _answered),
}
"""By the name of its endpoint."""


def names_in(text: str) -> list[str]:
    """Class names, separated by commas or lines; each once, in their order."""
    return _checked(dict.fromkeys(name.strip() for line in lines_of(text) for name in line.split(",")), "class name")


def names_of(names: Iterable[str]) -> list[str]:
    """The names together; raises ValueError if there is none, or if they are too long together."""
    if not (found := _checked(names, "class name")):
        raise ValueError("Write at least one class name first, separated by commas.")
    return found


def lines_in(text: str, kind: str) -> list[str]:
    """One text a line; raises ValueError if there is none."""
    texts = _checked(dict.fromkeys(lines_of(text)), kind)
    if not texts:
        raise ValueError(f"Write at least one {kind} first, one a line.")
    return texts


def _checked(texts: Iterable[str], kind: str) -> list[str]:
    found = [text for text in texts if text]
    if len(found) > MAX_TEXTS[kind] or any(len(text) > MAX_LENGTH for text in found):
        most = MAX_TEXTS[kind]
        raise ValueError(f"Ask about at most {most} texts at once, each {kind} of at most {MAX_LENGTH} characters.")
    if (letters := sum(map(len, found))) > MAX_LETTERS:
        raise ValueError(f"Ask with at most {MAX_LETTERS} characters at once, not {letters}.")
    return found
