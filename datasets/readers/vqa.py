"""VQA's JSONs: questions about COCO's pictures, and what ten people answered.

Format: https://visualqa.org/vqa_v1_download.html (`questions` and `annotations`, joined by `question_id`).
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar, Literal

from datasets.records import Contents, Record
from datasets.spec import DatasetSpec, Part
from xdecoder.files import read_json
from xdecoder.types import Question


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
    asked: dict[Any, list[Question]] = defaultdict(list)
    content = read_json(path)
    try:
        for row in content["questions"]:
            key = row["question_id"]
            if given is not None and key not in given:
                raise ValueError(f"{answers}: has no answers to question {key}, which {path.name} asks")
            said, kind = given[key] if given else ((), "")
            asked[row["image_id"]].append(Question(key, row["question"], said, kind))
        return content["data_subtype"], {image: tuple(questions) for image, questions in asked.items()}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected VQA's questions, with their ids, image ids and texts (missing: {error})") from None


def _answers(path: Path) -> dict[Any, tuple[tuple[str, ...], str]]:
    """What people answered to each question, and of which kind that is."""
    content = read_json(path)
    try:
        return {
            row["question_id"]: (tuple(given["answer"] for given in row["answers"]), row.get("answer_type", ""))
            for row in content["annotations"]
        }
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected VQA's annotations, with the answers to each question (missing: {error})") from None
