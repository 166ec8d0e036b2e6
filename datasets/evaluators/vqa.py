"""Accuracy of answers to questions about pictures, as VQAv2's official tool counts it (Antol et al., ICCV 2015)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from datasets.evaluators.evaluator import Evaluator, ImageId, percent
from xdecoder.types import AnswerResult, Sample

_NUMBERS = "zero one two three four five six seven eight nine ten"
NUMBERS = {"none": "0", **{word: str(value) for value, word in enumerate(_NUMBERS.split())}}
ARTICLES = ("a", "an", "the")
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
STOPS = 32  # the official tool hands a flag of this value over where the number of replacements is expected

# Right spellings; a word that lacks one of the apostrophes is mended.
_CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's how'd
how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock oughtn't
'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
someone's something'd something'd've something'll that's there'd there'd've there're there's they'd they'd've they'll they're
they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll
who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're
you've
"""
CONTRACTIONS = {
    **{word[:at] + word[at + 1 :]: word for word in _CONTRACTIONS.split() for at, letter in enumerate(word) if letter == "'"},
    "somebody'd": "somebodyd",
}

Record = tuple[float, ...]  # the accuracy of each question


class VqaEvaluator(Evaluator[AnswerResult, Record]):
    """vqa_accuracy: an answer is right to the degree that people gave it, and wholly so if three others did."""

    def update(self, result: AnswerResult, sample: Sample) -> None:
        """Measure one picture's answers; raises ValueError unless there is one a question, and people's answers to it."""
        if len(result.texts) != len(sample.questions):
            raise ValueError(f"picture {sample.id}: {len(result.texts)} answers to {len(sample.questions)} questions")
        unanswered = [question.id for question in sample.questions if not question.answers]
        if unanswered:
            raise ValueError(f"picture {sample.id}: nobody's answer to question {unanswered[0]} is known")
        pairs = zip(result.texts, sample.questions, strict=True)
        self._records[sample.id] = tuple(accuracy(text, question.answers) for text, question in pairs)

    def compute(self) -> dict[str, float]:
        """vqa_accuracy, in percent; NaN without questions."""
        found = [value for _, record in self._sorted() for value in record]
        return {"vqa_accuracy": percent(sum(found), len(found))}

    def per_image(self) -> dict[ImageId, float]:
        """Mean accuracy of the questions about each picture."""
        return {image: percent(sum(record), len(record)) for image, record in self._sorted() if record}


def accuracy(answer: str, given: Sequence[str]) -> float:
    """0..1: the mean, over leaving out each person in turn, of min(1, others who gave this answer / 3).

    Answers are brought to one spelling where people disagree; where all said the same it is taken literally.
    """
    answer, answers = _plain(answer), [_plain(text) for text in given]
    if len(set(answers)) > 1:
        answer, answers = normalised(answer), [normalised(text) for text in answers]
    same = [text == answer for text in answers]
    return sum(min(1.0, (sum(same) - own) / 3) for own in same) / len(answers)


def normalised(answer: str) -> str:
    """An answer without punctuation and articles, in lower case, numbers to ten as digits, apostrophes in their places."""
    words = [NUMBERS.get(word, word) for word in _without_punctuation(answer).lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def _plain(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()


def _without_punctuation(answer: str) -> str:
    """Marks that stand beside a space vanish, others become one; in a text with a number such as 1,000 all vanish."""
    bare, grouped = answer, re.search(r"\d,\d", answer) is not None
    for mark in PUNCTUATION:
        vanishes = grouped or f"{mark} " in answer or f" {mark}" in answer
        bare = bare.replace(mark, "" if vanishes else " ")
    return re.sub(r"\.(?!\d)", "", bare, count=STOPS)
