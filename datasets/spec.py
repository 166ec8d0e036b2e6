"""What a data set is, declared: where its files lie, what they hold, how it is measured.

Each format has a class of its own beside its reader; `DatasetSpec` is what they have in common, and what tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, ModelWrapValidatorHandler, model_validator

from datasets.records import Contents
from datasets.transforms import TransformConfig
from xdecoder.config import Config
from xdecoder.plugins import find, known
from xdecoder.resizing import ShortestEdge
from xdecoder.seem.clicks import ClickRule
from xdecoder.tasks.descriptor import Part

Rename = tuple[tuple[str, str], ...]  # regular expressions and what takes the place of what they match, applied in turn

EVALUATORS = {
    "panoptic": "datasets.evaluators.panoptic:PanopticEvaluator",
    "instance": "datasets.evaluators.instance:InstanceEvaluator",
    "cityscapes_instance": "datasets.evaluators.cityscapes:CityscapesInstanceEvaluator",
    "confusion": "datasets.evaluators.confusion:ObjectConfusion",
    "semantic": "datasets.evaluators.semantic:SemanticEvaluator",
    "calibration": "datasets.evaluators.calibration:CalibrationEvaluator",
    "iiou": "datasets.evaluators.cityscapes:InstanceIouEvaluator",
    "referring": "datasets.evaluators.referring:ReferringEvaluator",
    "grefcoco": "datasets.evaluators.grefcoco:GrefcocoEvaluator",
    "saco": "datasets.evaluators.saco:SacoEvaluator",
    "captioning": "datasets.evaluators.captioning:CaptionEvaluator",
    "attributes": "datasets.evaluators.attributes:AttributeEvaluator",
    "retrieval": "datasets.evaluators.retrieval:RetrievalEvaluator",
    "classification": "datasets.evaluators.classification:ClassificationEvaluator",
    "vqa": "datasets.evaluators.vqa:VqaEvaluator",
    "interactive": "datasets.evaluators.interactive:InteractiveEvaluator",
}
"""Where each evaluator is. One from elsewhere is found by its import path, or as an entry point of `xdecoder.evaluators`."""

EvaluatorName = Annotated[str, AfterValidator(partial(known, ours=EVALUATORS, group="xdecoder.evaluators", what="evaluator"))]

READERS = {
    "coco": "datasets.readers.coco:CocoSpec",
    "label_images": "datasets.readers.label_images:LabelImagesSpec",
    "captions": "datasets.readers.captions:CaptionsSpec",
    "karpathy": "datasets.readers.karpathy:KarpathySpec",
    "refer": "datasets.readers.refer:ReferSpec",
    "grefer": "datasets.readers.grefer:GreferSpec",
    "saco": "datasets.readers.saco:SacoSpec",
    "vqa": "datasets.readers.vqa:VqaSpec",
    "yolo": "datasets.readers.yolo:YoloSpec",
    "labelme": "datasets.readers.labelme:LabelMeSpec",
    "class_folders": "datasets.readers.class_folders:ClassFoldersSpec",
    "own": "datasets.readers.own:OwnSpec",
    "arrow": "datasets.readers.columns:ArrowSpec",
    "parquet": "datasets.readers.columns:ParquetSpec",
    "tar": "datasets.readers.tar:TarSpec",
    "objects": "datasets.readers.objects:ObjectsSpec",
}
"""Where the class of each reader is. One from elsewhere is found by its own import path, or as an entry point."""


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

    all_sentences: bool = True
    """Referring: whether each sentence of an object is asked, or its first one only."""

    together: bool = False
    """Referring: whether all phrases of a picture are read in one pass, in which they see each other, or each as if alone."""

    several: bool = False
    """Referring: whether all that a phrase means is asked for, one by one."""

    rule: ClickRule = "euclid"
    """Interactive: by which distance the next click is chosen; published numbers use "published"."""

    fold: int | None = None
    """Semantic: predicted labels from this one on count as it: the classes that Pascal VOC calls background."""


class DatasetSpec(Config):
    """One split of one data set. All paths are relative to the data root.

    A mapping becomes the class that its key `reader` names: one of `READERS`, an entry point of the group `xdecoder.readers`,
    or an import path, `package.module:Name`. A class says what its files are called and what they provide, and reads them.
    """

    file_keys: ClassVar[tuple[str, ...]] = ()
    """Fields that name a file."""

    folder_keys: ClassVar[tuple[str, ...]] = ("images",)
    """Fields that name a folder."""

    name: str
    """Prefix of its results."""

    reader: str
    """The format."""

    images: str
    """Folder of the pictures."""

    count: int | None = None
    """Expected number of pictures; another number is refused."""

    counts: Counts = Counts()
    """Expected numbers of what the pictures have; others are refused."""

    part: Literal["train", "val"] | None = None
    """Which share of a set without splits to take: a hash of its name sends every fifth picture to `val`."""

    complete: Literal["all", "things", "none"] = "all"
    """Of which classes every region of a picture is annotated. What nobody annotated is then unknown rather than background:
    with `things` (COCO's instances, which know no stuff) it may still be stuff, with `none` (single objects) anything."""

    evaluators: tuple[EvaluatorName, ...] = ()
    """What applies when measuring."""

    measured_with: Protocol = Protocol()
    """The settings of published numbers on this set."""

    drawn: str = ""
    """What the pictures show, where they are no photographs; a network that has learnt from nothing else says so."""

    protocol: str = ""
    """How published numbers on this set are measured, in words; printed beside scores."""

    @classmethod
    def member(cls, settings: Any) -> type[Config]:
        """The class that a mapping is for.

        Raises:
            ValueError: if its `reader` is missing or unknown.
        """
        if cls is not DatasetSpec or not isinstance(settings, Mapping):
            return cls
        reader = settings.get("reader")
        if not isinstance(reader, str):
            raise ValueError(f"a data set needs its 'reader', one of {', '.join(READERS)}, or package.module:Name")
        return find(reader, DatasetSpec, READERS, "xdecoder.readers", "reader")

    @model_validator(mode="wrap")
    @classmethod
    def _as_member(cls, settings: Any, validate: ModelWrapValidatorHandler[DatasetSpec]) -> Any:
        member = cls.member(settings)
        return validate(settings) if member is cls else member.model_validate(settings)

    def uncounted(self) -> Self:
        """The same set without the numbers that a whole one has, for a part of it."""
        return self.model_copy(update={"count": None, "counts": Counts()})

    def resolved(self) -> DatasetSpec:
        """This set; one whose format is still to be found out, such as your own data, as what it turns out to be."""
        return self

    def provides(self) -> frozenset[Part]:
        """What this set says of its pictures, and so what can be learnt from it and measured on it."""
        raise NotImplementedError

    def read(self, root: Path) -> Contents:
        """Read lists and annotations; pictures stay closed.

        Raises:
            ValueError: in one sentence that names the file at fault.
        """
        raise NotImplementedError

    @property
    def packed(self) -> bool:
        """Whether the pictures lie in a few large files with their captions, to be read one by one."""
        return False


def needs(spec: DatasetSpec, *keys: str) -> None:
    """Raises ValueError if the set has none of the keys."""
    if not any(getattr(spec, key) for key in keys):
        raise ValueError(f"data set {spec.name!r}: reader {spec.reader!r} needs {' or '.join(keys)}")
