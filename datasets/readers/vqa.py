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
        path = root / self.questions
        answers = _answers(root / self.answers) if self.answers else None
        asked: dict[int, list[Question]] = defaultdict(list)
        content = read_json(path)
        try:
            subset = content["data_subtype"]
            for row in content["questions"]:
                key = row["question_id"]
                if answers is not None and key not in answers:
                    raise ValueError(f"{root / str(self.answers)}: has no answers to question {key}, which {path.name} asks")
                asked[row["image_id"]].append(Question(key, row["question"], answers[key] if answers else ()))
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{path}: expected VQA's questions, with their ids, image ids and texts (missing: {error})"
            ) from None
        # "test-dev2015" asks about pictures of test2015.
        stem = "COCO_" + subset.replace("test-dev", "test")
        return Contents(
            None,
            [
                Record(id=key, image=root / self.images / f"{stem}_{key:012d}.jpg", questions=tuple(questions))
                for key, questions in asked.items()
            ],
        )


def _answers(path: Path) -> dict[Any, tuple[str, ...]]:
    content = read_json(path)
    try:
        return {row["question_id"]: tuple(given["answer"] for given in row["answers"]) for row in content["annotations"]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected VQA's annotations, with the answers to each question (missing: {error})") from None
