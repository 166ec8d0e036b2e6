"""Accuracy of answers to questions about pictures, as VQAv2's official tool counts it (Antol et al., ICCV 2015)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from datasets.answers import normalised
from datasets.evaluators.evaluator import Evaluator, ImageId, percent
from xdecoder.types import AnswerResult, Sample

Record = tuple[tuple[str, float], ...]  # kind and accuracy of each question


class VqaEvaluator(Evaluator[AnswerResult, Record]):
    """vqa_accuracy, of all questions and of each kind: an answer is right to the degree that people gave it, and wholly so if
    three others did."""

    def update(self, result: AnswerResult, sample: Sample) -> None:
        """Measure one picture's answers; raises ValueError unless there is one a question, and people's answers to it."""
        if len(result.texts) != len(sample.questions):
            raise ValueError(f"picture {sample.id}: {len(result.texts)} answers to {len(sample.questions)} questions")
        unanswered = [question.id for question in sample.questions if not question.answers]
        if unanswered:
            raise ValueError(f"picture {sample.id}: nobody's answer to question {unanswered[0]} is known")
        pairs = zip(result.texts, sample.questions, strict=True)
        self._records[sample.id] = tuple((question.kind, accuracy(text, question.answers)) for text, question in pairs)

    def compute(self) -> dict[str, float]:
        """vqa_accuracy and, where kinds are known, such as vqa_accuracy_yes_no; in percent, NaN without questions."""
        by_kind: dict[str, list[float]] = {}
        for _, record in self._sorted():
            for kind, value in record:
                by_kind.setdefault(kind, []).append(value)
        found = [value for values in by_kind.values() for value in values]
        kinds = {f"vqa_accuracy_{re.sub('[^a-z0-9]+', '_', kind.lower())}": by_kind[kind] for kind in sorted(by_kind) if kind}
        return {name: percent(sum(values), len(values)) for name, values in {"vqa_accuracy": found, **kinds}.items()}

    def per_image(self) -> dict[ImageId, float]:
        """Mean accuracy of the questions about each picture."""
        found = ((image, [value for _, value in record]) for image, record in self._sorted() if record)
        return {image: percent(sum(values), len(values)) for image, values in found}


def accuracy(answer: str, given: Sequence[str]) -> float:
    """0..1: the mean, over leaving out each person in turn, of min(1, others who gave this answer / 3).

    Answers are brought to one spelling where people disagree; where all said the same it is taken literally.
    """
    answer, answers = _plain(answer), [_plain(text) for text in given]
    if len(set(answers)) > 1:
        answer, answers = normalised(answer), [normalised(text) for text in answers]
    same = [text == answer for text in answers]
    return sum(min(1.0, (sum(same) - own) / 3) for own in same) / len(answers)


def _plain(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()
