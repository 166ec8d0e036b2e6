"""Which classes a set has, and which numbers stand for them in its files."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from datasets.spec import DatasetSpec, Rename
from xdecoder.files import read_lines
from xdecoder.language import vocabularies
from xdecoder.types import Vocabulary


def vocabulary(spec: DatasetSpec, root: Path) -> Vocabulary:
    """The classes of `spec.vocabulary`, or those of `spec.classes`, where `spec.things` are countable.

    Raises:
        ValueError: naming the file or the set.
    """
    if spec.vocabulary:
        return vocabularies.load(spec.vocabulary).vocabulary
    names = spec.classes if isinstance(spec.classes, tuple) else tuple(read_lines(root / str(spec.classes)))
    if isinstance(spec.ignore_value, int) and spec.ignore_value - spec.label_offset == len(names) - 1:
        names = names[:-1]
    where = f"data set {spec.name!r}" if isinstance(spec.classes, tuple) else str(root / str(spec.classes))
    unknown = [name for name in spec.things if name not in names]
    if unknown:
        raise ValueError(f"{where}: {unknown[0]!r} of `things` is not among the classes")
    try:
        return Vocabulary(names, tuple(name in spec.things for name in names))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def numbers(spec: DatasetSpec, count: int) -> dict[int, int]:
    """Number of a class in the files -> its label, for a set of `count` classes."""
    return _numbers(spec.vocabulary if spec.label_ids else None, spec.label_offset, count)


@cache
def _numbers(name: str | None, offset: int, count: int) -> dict[int, int]:
    ids = vocabularies.load(name).ids if name else range(count)
    return {each + offset: label for label, each in enumerate(ids) if isinstance(each, int)}


def renamed(name: str, rules: Rename) -> str:
    """The name after all substitutions."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
