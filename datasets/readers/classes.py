"""Which classes a set has, and which numbers stand for them in its files.

"background" is no class, in no format and however it is written: what is painted or outlined as it counts as unlabelled.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from datasets.spec import DatasetSpec, Rename
from xdecoder.config import Config
from xdecoder.files import read_lines
from xdecoder.language import vocabularies
from xdecoder.texts import check_distinct, check_name
from xdecoder.types import Vocabulary

_BACKGROUND = frozenset({"background", "__background__", "_background_", "__ignore__"})


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
        if isinstance(self.classes, tuple):
            where, listed = f"{root / str(getattr(self, 'images', ''))}: its classes", self.classes
        else:
            where, listed = str(root / str(self.classes)), tuple(read_lines(root / str(self.classes)))
            if any(map(is_background, listed)):
                raise ValueError(f"{where}: 'background' is no class; leave it out, or give `classes` as a list of names")
        unknown = [name for name in self.things if name not in listed]
        if unknown:
            raise ValueError(f"{where}: {unknown[0]!r} of `things` is not among the classes")
        names = checked_names(self.without_ignored([name for name in listed if not is_background(name)]), where)
        return Vocabulary(names, tuple(name in self.things for name in names))

    def without_ignored(self, names: list[str]) -> list[str]:
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


def is_background(name: str) -> bool:
    """Whether a class is called background, whatever the case of the letters."""
    return name.strip().lower() in _BACKGROUND


def checked_names(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Class names without blanks around them; raises ValueError, naming `where`, for blank, endless or equal ones, or none."""
    if not names:
        raise ValueError(f"{where}: names no class")
    stripped = tuple(name.strip() for name in names)
    try:
        for name in stripped:
            check_name(name)
        check_distinct(stripped)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return stripped


def numbers(spec: DatasetSpec, count: int) -> dict[int, int]:
    """Number of a class in the files -> its label, for a set of `count` classes."""
    offset = spec.label_offset if isinstance(spec, LabelImageKeys) else 0
    if isinstance(spec, ClassKeys) and isinstance(spec.classes, tuple):
        places = [place for place, name in enumerate(spec.classes) if not is_background(name)]
        return {place + offset: label for label, place in enumerate(places[:count])}
    name = spec.vocabulary if isinstance(spec, VocabularyKeys) and spec.label_ids else None
    return _numbers(name, offset, count)


def unlabelled(spec: DatasetSpec) -> frozenset[int]:
    """Numbers in the files that stand for no class."""
    values: set[int] = set()
    if isinstance(spec, LabelImageKeys) and isinstance(spec.ignore_value, int):
        values.add(spec.ignore_value)
    if isinstance(spec, ClassKeys) and isinstance(spec.classes, tuple):
        offset = spec.label_offset if isinstance(spec, LabelImageKeys) else 0
        values |= {place + offset for place, name in enumerate(spec.classes) if is_background(name)}
    return frozenset(values)


@cache
def _numbers(name: str | None, offset: int, count: int) -> dict[int, int]:
    ids = vocabularies.load(name).ids if name else range(count)
    return {each + offset: label for label, each in enumerate(ids) if isinstance(each, int)}


def renamed(name: str, rules: Rename) -> str:
    """The name after all substitutions."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
