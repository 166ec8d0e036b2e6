"""VQA's JSONs: questions about COCO's pictures, and what ten people answered.

Format: https://visualqa.org/vqa_v1_download.html (`questions` and `annotations`, joined by `question_id`).
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar, Literal, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from datasets.readers.schema import Id, rows_of
from datasets.records import Contents, Record
from datasets.spec import DatasetSpec, Part
from xdecoder.files import read_json
from xdecoder.types import Question


class _Question(TypedDict):
    question_id: Id
    image_id: int
    question: str


class _Answer(TypedDict):
    answer: str


class _Answered(TypedDict):
    question_id: Id
    answers: list[_Answer]
    answer_type: NotRequired[str]


_QUESTIONS, _ANSWERED = TypeAdapter(list[_Question]), TypeAdapter(list[_Answered])


class VqaSpec(DatasetSpec):
    """VQA's questions and annotations."""

    file_keys: ClassVar[tuple[str, ...]] = ("questions", "answers")

    reader: Literal["vqa"] = "vqa"

    questions: str
    """JSON of the questions."""

    answers: str | None = None
    """JSON of what people answered."""

    def provides(self) -> frozenset[Part]:
        return frozenset({"questions"})

    def read(self, root: Path) -> Contents:
        """Records of the pictures that are asked about; a test split has questions without answers."""
        subset, asked = read_questions(root / self.questions, root / self.answers if self.answers else None)
        # "test-dev2015" asks about pictures of test2015.
        stem = "COCO_" + subset.replace("test-dev", "test")
        return Contents(
            None,
            [
                Record(id=key, image=root / self.images / f"{stem}_{key:012d}.jpg", questions=questions)
                for key, questions in asked.items()
            ],
        )


def read_questions(path: Path, answers: Path | None) -> tuple[str, dict[Any, tuple[Question, ...]]]:
    """Which pictures are asked about, in words such as "val2014", and the questions about each.

    Raises:
        ValueError: naming the file that is missing or wrong, or lacks the answers to a question.
    """
    given = _answers(answers) if answers else None
    asked: dict[Id, list[Question]] = defaultdict(list)
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("data_subtype"), str):
        raise ValueError(f"{path}: expected VQA's questions, an object with a 'data_subtype' such as \"val2014\"")
    rows: list[_Question] = rows_of(_QUESTIONS, content.get("questions"), path, "questions")
    for row in rows:
        key = row["question_id"]
        if given is not None and key not in given:
            raise ValueError(f"{answers}: has no answers to question {key}, which {path.name} asks")
        said, kind = given[key] if given else ((), "")
        asked[row["image_id"]].append(Question(key, row["question"], said, kind))
    return content["data_subtype"], {image: tuple(questions) for image, questions in asked.items()}


def _answers(path: Path) -> dict[Id, tuple[tuple[str, ...], str]]:
    """What people answered to each question, and of which kind that is."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected VQA's annotations, with the answers to each question")
    rows: list[_Answered] = rows_of(_ANSWERED, content.get("annotations"), path, "annotations")
    return {
        row["question_id"]: (tuple(given["answer"] for given in row["answers"]), row.get("answer_type", "")) for row in rows
    }
