"""What others have to know of a task: one value in the task's own file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Part = Literal["regions", "references", "captions", "texts", "label", "questions", "objects"]
"""What a set can say of its pictures; `texts` are captions, or names of classes in their place."""

Look = Literal["scene", "square", "question"]
"""How an image is shown to a network that does not say how it was measured: in its shape, or as a square, large or small."""


@dataclass(frozen=True)
class Descriptor:
    """Read by the loader, evaluators, submissions, evaluation and the report, none of which asks which task it is."""

    name: str
    """In experiments, and before the names of its losses. A task from elsewhere is called by the import path of its settings,
    `package.module:Config`, or by its entry point's name."""

    needs: Part
    """What a picture must have, for the task to be measured on it and learnt from it."""

    result: type
    """What is said of one picture (`xdecoder.types`)."""

    evaluators: tuple[str, ...] = ()
    """Names of the evaluators that can measure it, of which a data set chooses (`datasets.evaluators`). One from elsewhere says
    by itself which tasks it can measure."""

    instead: tuple[Part, ...] = ()
    """What serves as well."""

    learns_from: tuple[Part, ...] = ()
    """What can stand in for it in training."""

    takes: tuple[Literal["captions", "nouns"], ...] = ()
    """What else goes into its samples where a picture has it."""

    look: Look = "scene"

    submission: str = ""
    """The name of the file in which its results are saved; empty: its results choose theirs."""

    shows: str = ""
    """A line on what the report's pictures show."""

    score: str = ""
    """A line on what the score beside a picture means."""

    pooled: bool = False
    """Whether what is said of a picture is read off a comparison with others."""
