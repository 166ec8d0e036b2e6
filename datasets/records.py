"""What a reader finds of one picture: file names and annotations, with nothing decoded yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from datasets.findings import Finding
from xdecoder.types import Question, Vocabulary

Turn = Literal["stored", "displayed", "told", "unknown"]
"""Which way up annotations are drawn on a photograph that is stored turned (EXIF): on the pixels as they are stored, on the
picture as it is displayed, or as sizes and outlines tell; where
nothing is known, such photographs are refused."""


@dataclass(frozen=True)
class Region:
    """An annotated region: its value in the record's id map, or its own outline."""

    label: int
    id: int = 0  # value in the panoptic PNG
    crowd: bool = False
    outline: Any = None  # COCO polygons or RLE, where there is no id map


@dataclass(frozen=True)
class Reference:
    """A referred object and the sentences that people said of it."""

    outline: Any  # COCO polygons or RLE
    sentences: tuple[str, ...]
    id: int | str = 0
    kind: str = ""  # of question, for scores by kind
    about: str = ""  # what kind of thing it is, in the words of `Record.shows`; empty where it is not known


@dataclass(frozen=True)
class Encoded:
    """A picture file that lies within another file."""

    data: bytes
    where: str  # the other file, and the place in it

    def __str__(self) -> str:
        return self.where


@dataclass(frozen=True)
class Record:
    """One picture before anything but JSON and lists has been read."""

    id: int | str
    image: Path | Encoded
    height: int | None = None
    width: int | None = None
    id_map: Path | None = None  # panoptic PNG, or label PNG
    regions: tuple[Region, ...] | None = None  # None for label PNGs, where values speak for themselves
    references: tuple[Reference, ...] = ()
    captions: tuple[str, ...] = ()
    nouns: tuple[tuple[str, ...], ...] = ()  # of each caption, where the annotation states them
    label_map: Path | None = None  # label image of a panoptic set
    label: int | None = None  # class of the whole picture
    questions: tuple[Question, ...] = ()
    objects: tuple[Path, ...] = ()  # mask images of objects to be marked
    shows: frozenset[str] | None = None  # every kind of thing that the picture has; None where it is not known
    turn: Turn = "stored"


class Contents(NamedTuple):
    """What a reader found."""

    vocabulary: Vocabulary | None  # the classes, where there are any
    records: Sequence[Record]  # one a picture
    findings: tuple[Finding, ...] = ()  # what is wrong, each told once
