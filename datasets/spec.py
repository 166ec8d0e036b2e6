"""What a data set is, declared: where its files lie, what they hold, how it is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from xdecoder.config import Config

EvaluatorName = Literal["panoptic", "instance", "semantic", "referring", "captioning", "retrieval", "attributes"]
TaskName = Literal["segmentation", "referring", "captioning", "retrieval"]
PACKED = ("arrow", "parquet", "tar")


class DatasetSpec(Config):
    """One split of one data set. All paths are relative to the data root."""

    name: str
    """Prefix of its results."""

    reader: Literal["coco", "label_images", "captions", "arrow", "parquet", "tar"]
    """`coco`: COCO-style JSONs; `label_images`: a label PNG per picture; `captions`: a Flickr8k-style text file.
    Captioned pictures packed into `files`: `arrow` (ViLT's and METER's layout), `parquet`, `tar` (WebDataset shards)."""

    images: str = ""
    """Folder of the pictures."""

    files: tuple[str, ...] = ()
    """Files of packed pictures, in order: paths, patterns such as `cc3m/{00000..00331}.tar` or `sbu_*.arrow`, and for `tar`
    also http and https addresses."""

    image_column: str = "image"
    """Column of the encoded pictures in `arrow` and `parquet` files, or of their paths in `images`."""

    caption_column: str = "caption"
    """Column of the captions, one or a list; in `tar` files the key in a .json where there is no .txt."""

    panoptic: str | None = None
    """COCO panoptic JSON."""

    panoptic_images: str | None = None
    """Folder of the panoptic PNGs (id = R + 256 G + 65536 B)."""

    instances: str | None = None
    """COCO instances JSON. Beside a panoptic JSON it serves the instance evaluator only."""

    phrases: str | None = None
    """RefCOCO-style JSON: objects with their sentences."""

    captions: str | None = None
    """COCO captions JSON, or the text file of `captions`."""

    scenes: str | None = None
    """JSON of the attributes of each object (generated sets only), for the attribute evaluator."""

    split: str | None = None
    """List file: `image label` rows for `label_images`, picture names for `captions`."""

    labels: str | None = None
    """Folder of label PNGs named like the pictures, for `label_images` without a list file."""

    classes: str | tuple[str, ...] | None = None
    """Class names of `label_images` in label order: a text file with one name a line, or the names themselves."""

    things: tuple[str, ...] = ()
    """Those of `classes` that are countable. Label images hold one region a class, so usually none."""

    label_offset: int = 0
    """Value of label 0 in the label PNGs."""

    ignore_value: int | None = None
    """Value of unlabelled pixels in the label PNGs; a name that `classes` has in its place is dropped."""

    count: int | None = None
    """Expected number of pictures; another number is refused."""

    evaluators: tuple[EvaluatorName, ...] = ()
    """What applies when measuring."""

    all_sentences: bool = True
    """Whether measuring asks with every sentence of an object, or with its first one only."""

    protocol: str = ""
    """How published numbers on this set are measured, in words; printed beside scores."""

    @model_validator(mode="after")
    def _check(self) -> DatasetSpec:
        if self.reader == "coco":
            if not (self.panoptic or self.instances or self.phrases or self.captions):
                raise ValueError(f"data set {self.name!r}: reader 'coco' needs panoptic, instances, phrases or captions")
            if bool(self.panoptic) != bool(self.panoptic_images):
                raise ValueError(f"data set {self.name!r}: panoptic and panoptic_images come together")
        if self.reader == "label_images" and not (self.classes and (self.split or self.labels)):
            raise ValueError(f"data set {self.name!r}: reader 'label_images' needs classes, and split or labels")
        if self.reader == "captions" and not self.captions:
            raise ValueError(f"data set {self.name!r}: reader 'captions' needs captions")
        if self.packed != bool(self.files):
            raise ValueError(f"data set {self.name!r}: files come with the readers {', '.join(PACKED)}, and only with them")
        if not self.packed and not self.images:
            raise ValueError(f"data set {self.name!r}: reader {self.reader!r} needs images, the folder of the pictures")
        return self

    @property
    def packed(self) -> bool:
        """Whether the pictures lie in a few large files with their captions, to be read one by one."""
        return self.reader in PACKED

    def provides(self, task: TaskName) -> bool:
        """Whether this set has what the task is measured against."""
        if task == "segmentation":
            return bool(self.panoptic or self.instances or self.classes)
        return bool(self.phrases if task == "referring" else self.captions or self.packed)


@dataclass(frozen=True)
class Region:
    """An annotated region: its value in the record's id map, or its own outline."""

    label: int
    id: int = 0                 # value in the panoptic PNG
    crowd: bool = False
    outline: Any = None         # COCO polygons or RLE, where there is no id map


@dataclass(frozen=True)
class Reference:
    """A referred object and the sentences that people said of it."""

    outline: Any                # COCO polygons or RLE
    sentences: tuple[str, ...]
    id: int | str = 0


@dataclass(frozen=True)
class Encoded:
    """A picture file that lies within another file."""

    data: bytes
    where: str                  # the other file, and the place in it

    def __str__(self) -> str:
        return self.where


@dataclass(frozen=True)
class Record:
    """One picture before anything but JSON and lists has been read."""

    id: int | str
    image: Path | Encoded
    height: int | None = None
    width: int | None = None
    id_map: Path | None = None              # panoptic PNG, or label PNG
    regions: tuple[Region, ...] | None = None   # None for label PNGs, where values speak for themselves
    references: tuple[Reference, ...] = ()
    captions: tuple[str, ...] = ()
    nouns: tuple[tuple[str, ...], ...] = ()     # of each caption, where the annotation states them
