"""Which classes a set has, and which numbers stand for them in its files."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from datasets.spec import DatasetSpec, Rename
from xdecoder.config import Config
from xdecoder.files import read_lines
from xdecoder.language import vocabularies
from xdecoder.types import Vocabulary


class VocabularyKeys(Config):
    """Classes by the name of a list."""

    vocabulary: str | None = None
    """A class list of `xdecoder/language/vocabularies`, such as "coco_133" or "coco_133:things"."""

    label_ids: bool = False
    """Whether files number the classes by the ids of `vocabulary`, or by their places in the list."""

    @model_validator(mode="after")
    def _check_vocabulary(self) -> VocabularyKeys:
        if self.label_ids and not self.vocabulary:
            raise ValueError("label_ids needs a vocabulary, which has the ids")
        if self.vocabulary:
            vocabularies.load(self.vocabulary)
        return self


class ClassKeys(VocabularyKeys):
    """Classes by the name of a list, or by their own names."""

    classes: str | tuple[str, ...] | None = None
    """Class names in label order: a text file with one name a line, or the names themselves."""

    things: tuple[str, ...] = ()
    """Those of `classes` that are countable."""

    @model_validator(mode="after")
    def _check_classes(self) -> ClassKeys:
        if self.vocabulary and self.classes:
            raise ValueError("give the classes by vocabulary or by classes, not both")
        if not (self.vocabulary or self.classes):
            raise ValueError("it needs classes or vocabulary, which name the classes")
        return self

    def class_names(self, root: Path) -> Vocabulary:
        """The classes; raises ValueError naming the file or the key."""
        if self.vocabulary:
            return vocabularies.load(self.vocabulary).vocabulary
        inline = isinstance(self.classes, tuple)
        names = self.classes if isinstance(self.classes, tuple) else tuple(read_lines(root / str(self.classes)))
        where = "classes" if inline else str(root / str(self.classes))
        names = self.without_ignored(names)
        unknown = [name for name in self.things if name not in names]
        if unknown:
            raise ValueError(f"{where}: {unknown[0]!r} of `things` is not among the classes")
        try:
            return Vocabulary(names, tuple(name in self.things for name in names))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None

    def without_ignored(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The names but for that of unlabelled pixels, where one of them has a name."""
        return names


class LabelImageKeys(Config):
    """What values in label images mean."""

    labels: str | None = None
    """Folder of label images. Beside a panoptic JSON they serve the semantic evaluator only."""

    label_rename: Rename = ((r"\.[^.]*$", ".png"),)
    """How a label image's path in `labels` follows from the picture's in `images`."""

    label_offset: int = 0
    """What the files add to the places or ids of the classes."""

    ignore_value: int | Literal["others"] | None = None
    """Value of unlabelled pixels in the label images, or "others": all that no class has. A name that `classes` has in its
    place is dropped."""


def numbers(spec: DatasetSpec, count: int) -> dict[int, int]:
    """Number of a class in the files -> its label, for a set of `count` classes."""
    name = spec.vocabulary if isinstance(spec, VocabularyKeys) and spec.label_ids else None
    return _numbers(name, spec.label_offset if isinstance(spec, LabelImageKeys) else 0, count)


@cache
def _numbers(name: str | None, offset: int, count: int) -> dict[int, int]:
    ids = vocabularies.load(name).ids if name else range(count)
    return {each + offset: label for label, each in enumerate(ids) if isinstance(each, int)}


def renamed(name: str, rules: Rename) -> str:
    """The name after all substitutions."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
