"""What a data set is, declared: where its files lie, what they hold, how it is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from datasets.transforms import ShortestEdge, TransformConfig
from xdecoder.config import Config
from xdecoder.language import vocabularies
from xdecoder.types import Question

EvaluatorName = Literal[
    "panoptic", "instance", "semantic", "referring", "captioning", "retrieval", "attributes", "classification", "vqa"
]
TaskName = Literal["segmentation", "referring", "captioning", "retrieval", "classification", "vqa"]
PACKED = ("arrow", "parquet", "tar")
Rename = tuple[tuple[str, str], ...]  # regular expressions and what takes the place of what they match, applied in turn


_NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "coco": (("panoptic", "instances", "phrases", "captions"),),
    "label_images": (("classes", "vocabulary"), ("split", "labels")),
    "captions": (("captions",),),
    "karpathy": (("captions",), ("subset",)),
    "refer": (("phrases",), ("instances",), ("subset",)),
    "vqa": (("questions",),),
    "yolo": (("classes",),),
    "class_folders": (("classes", "vocabulary"),),
}
"""Fields that a reader cannot do without; of each group one."""


class Counts(Config):
    """How many of each kind the pictures of a set have between them; None where it is not known."""

    objects: int | None = None
    """Annotated regions, or objects that are referred to."""
    sentences: int | None = None
    """Referring expressions."""
    captions: int | None = None
    questions: int | None = None


class Protocol(Config):
    """With which settings published numbers on a set are measured; an evaluation takes these unless it is told others."""

    transform: TransformConfig = ShortestEdge()
    """What is done to a picture before it is shown."""

    templates: Literal["published", "none"] = "published"
    """Sentences around class names: the mean over all 81, or the bare name."""

    background: bool = True
    """Whether the word "background" competes with the classes for each query."""

    object_threshold: float = 0.8
    """Panoptic: how likely a query's best class must be; 0.4 on sets whose classes were not learnt."""

    overlap_threshold: float = 0.8
    """Panoptic: which share of its mask a segment must keep."""

    detections: int = 100
    """Instances kept of a picture."""

    backbone_view: bool = True
    """Retrieval: whether the mean of decoder's and backbone's similarities counts, or the decoder's alone."""

    fold: int | None = None
    """Semantic: predicted labels from this one on count as it: the classes that Pascal VOC calls background."""


class DatasetSpec(Config):
    """One split of one data set. All paths are relative to the data root."""

    name: str
    """Prefix of its results."""

    reader: Literal[
        "coco",
        "label_images",
        "captions",
        "karpathy",
        "refer",
        "vqa",
        "yolo",
        "class_folders",
        "own",
        "arrow",
        "parquet",
        "tar",
    ]
    """`coco`: COCO-style JSONs; `label_images`: a label PNG per picture; `captions`: a Flickr8k-style text file;
    `karpathy`: Karpathy's JSON of captions and splits; `refer`: a pickled list of referring expressions beside the instances;
    `vqa`: VQA's questions and annotations; `yolo`: a text file of polygons per picture; `class_folders`: a folder of pictures
    per class; captioned pictures packed into `files`: `arrow` (ViLT's and METER's layout), `parquet`, `tar` (WebDataset);
    `own`: whichever of these the path `images` turns out to hold (`datasets.readers.own`)."""

    images: str = ""
    """Folder of the pictures."""

    files: tuple[str, ...] = ()
    """Files of packed pictures, in order: paths, patterns such as `cc3m/{00000..00331}.tar` or `sbu_*.arrow`, and for `tar`
    also http and https addresses."""

    image_column: str = "image"
    """Column of the encoded pictures in `arrow` and `parquet` files, or of their paths in `images`."""

    caption_column: str = "caption"
    """Column of the captions, one or a list; in `tar` files the key in a .json where there is no .txt."""

    image_rename: Rename = ()
    """How a picture's path in `images` follows from what the annotation or list file calls it (panoptic sets: its PNG)."""

    panoptic: str | None = None
    """COCO panoptic JSON."""

    panoptic_images: str | None = None
    """Folder of the panoptic PNGs (id = R + 256 G + 65536 B)."""

    instances: str | None = None
    """COCO instances JSON. Beside a panoptic JSON it serves the instance evaluator only."""

    phrases: str | None = None
    """RefCOCO-style JSON: objects with their sentences; for `refer` the pickled list."""

    captions: str | None = None
    """COCO captions JSON, the text file of `captions`, or the JSON of `karpathy`."""

    questions: str | None = None
    """JSON of the questions of `vqa`."""

    answers: str | None = None
    """JSON of what people answered to the questions of `vqa`."""

    scenes: str | None = None
    """JSON of the attributes of each object (generated sets only), for the attribute evaluator."""

    split: str | None = None
    """List file: `image label` rows or pictures' paths for `label_images`, picture names for `captions`."""

    subset: str | None = None
    """Which split to take of a file that holds several (`karpathy`, `refer`)."""

    labels: str | None = None
    """Folder of label images. Beside a panoptic JSON they serve the semantic evaluator only."""

    label_rename: Rename = ((r"\.[^.]*$", ".png"),)
    """How a label image's path in `labels` follows from the picture's in `images`."""

    pair_by_order: bool = False
    """Whether the k-th picture belongs to the k-th label image, whatever their names."""

    vocabulary: str | None = None
    """A class list of `xdecoder/language/vocabularies`, such as "coco_133" or "coco_133:things"."""

    classes: str | tuple[str, ...] | None = None
    """Class names of `label_images` in label order: a text file with one name a line, or the names themselves."""

    things: tuple[str, ...] = ()
    """Those of `classes` that are countable. Label images hold one region a class, so usually none."""

    label_ids: bool = False
    """Whether files number the classes by the ids of `vocabulary`, or by their places in the list."""

    label_offset: int = 0
    """What the files add to the places or ids."""

    ignore_value: int | Literal["others"] | None = None
    """Value of unlabelled pixels in the label images, or "others": all that no class has. A name that `classes` has in its
    place is dropped."""

    count: int | None = None
    """Expected number of pictures; another number is refused."""

    counts: Counts = Counts()
    """Expected numbers of what the pictures have; others are refused."""

    part: Literal["train", "val"] | None = None
    """Which share of a set without splits to take: a hash of its name sends every fifth picture to `val`."""

    evaluators: tuple[EvaluatorName, ...] = ()
    """What applies when measuring."""

    all_sentences: bool = True
    """Whether measuring asks with every sentence of an object, or with its first one only."""

    measured_with: Protocol = Protocol()
    """The settings of published numbers on this set."""

    protocol: str = ""
    """How published numbers on this set are measured, in words; printed beside scores."""

    @model_validator(mode="after")
    def _check(self) -> DatasetSpec:
        missing = [some for some in _NEEDS.get(self.reader, ()) if not any(getattr(self, name) for name in some)]
        if missing:
            raise ValueError(f"data set {self.name!r}: reader {self.reader!r} needs {' or '.join(missing[0])}")
        if bool(self.panoptic) != bool(self.panoptic_images):
            raise ValueError(f"data set {self.name!r}: panoptic and panoptic_images come together")
        if self.vocabulary and self.classes:
            raise ValueError(f"data set {self.name!r}: give the classes by vocabulary or by classes, not both")
        if self.label_ids and not self.vocabulary:
            raise ValueError(f"data set {self.name!r}: label_ids needs a vocabulary, which has the ids")
        if self.vocabulary:
            vocabularies.load(self.vocabulary)
        if self.packed != bool(self.files):
            raise ValueError(f"data set {self.name!r}: files come with the readers {', '.join(PACKED)}, and only with them")
        if not (self.packed or self.images or self.reader == "own"):  # whose path comes with the experiment
            raise ValueError(f"data set {self.name!r}: reader {self.reader!r} needs images, the folder of the pictures")
        return self

    @property
    def packed(self) -> bool:
        """Whether the pictures lie in a few large files with their captions, to be read one by one."""
        return self.reader in PACKED

    def provides(self, task: TaskName) -> bool:
        """Whether this set has what the task is measured against."""
        if self.reader == "class_folders":
            return task in ("classification", "retrieval")
        if task == "segmentation":
            return self.reader != "refer" and bool(self.panoptic or self.instances or self.classes or self.vocabulary)
        captions = self.captions or self.packed
        having = {"referring": self.phrases, "vqa": self.questions, "captioning": captions, "retrieval": captions}
        return bool(having.get(task))


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
