"""The data sets known by name: declared here and in the files beside this one."""

from __future__ import annotations

import difflib

from datasets.catalog import coco, concepts, interactive, scenes, wild
from datasets.readers.captions import CaptionsSpec
from datasets.readers.class_folders import ClassFoldersSpec
from datasets.readers.coco import CocoSpec
from datasets.readers.columns import ArrowSpec
from datasets.readers.grefer import GreferSpec
from datasets.readers.karpathy import KarpathySpec
from datasets.readers.label_images import LabelImagesSpec
from datasets.readers.own import OwnSpec
from datasets.shapes import SHAPES, STUFF
from datasets.spec import Counts, DatasetSpec, EvaluatorName, Protocol
from xdecoder.resizing import ShortestSide, Stretch

SHAPES_PROTOCOL = "generated scenes, see datasets/shapes.py; pictures at their own size"
CAMVID_PROTOCOL = "11 classes, unlabelled pixels (value 11) ignored, 480x360 pictures, one confusion matrix over the split"


def _shapes(split: str, evaluators: tuple[EvaluatorName, ...]) -> DatasetSpec:
    return CocoSpec(
        name=f"shapes_{split}",
        images=f"shapes/images/{split}",
        panoptic=f"shapes/annotations/panoptic_{split}.json",
        panoptic_images=f"shapes/annotations/panoptic_{split}",
        instances=f"shapes/annotations/instances_{split}.json",
        phrases=f"shapes/annotations/phrases_{split}.json",
        captions=f"shapes/annotations/captions_{split}.json",
        scenes=f"shapes/annotations/scenes_{split}.json",
        questions=f"shapes/annotations/questions_{split}.json",
        answers=f"shapes/annotations/answers_{split}.json",
        evaluators=evaluators,
        drawn=f"generated scenes ({', '.join(SHAPES)} on {', '.join(STUFF)})",
        protocol=SHAPES_PROTOCOL,
    )


def _shapes_absent(part: str) -> DatasetSpec:
    return GreferSpec(
        name="shapes_absent" if part == "test" else f"shapes_absent_{part}",
        images="shapes/images/val",
        phrases="shapes/annotations/grefs_val.json",
        instances="shapes/annotations/instances_val.json",
        subset=part,
        evaluators=("grefcoco",),
        protocol="every second generated scene: each colour and shape that it shows, and two that it does not "
        "(easy: neither is there; hard: both are, but not together); shapes_absent_fit has the other scenes",
    )


def _camvid(split: str, count: int) -> DatasetSpec:
    return LabelImagesSpec(
        name=f"camvid_{split}",
        images="camvid",
        split=f"camvid/{split}.txt",
        classes="camvid/classes.txt",
        ignore_value=11,
        count=count,
        evaluators=("semantic",),
        protocol=CAMVID_PROTOCOL,
    )


def _coco(split: str, count: int) -> DatasetSpec:
    return CocoSpec(
        name=f"coco_2017_{split}_panoptic",
        images=f"coco/{split}2017",
        panoptic=f"coco/annotations/panoptic_{split}2017.json",
        panoptic_images=f"coco/panoptic_{split}2017",
        instances=f"coco/annotations/instances_{split}2017.json",
        captions=f"coco/annotations/captions_{split}2017.json",
        vocabulary="coco_133",
        label_ids=True,
        count=count,
        evaluators=("panoptic", "instance", "semantic", "captioning", "retrieval"),
        protocol="133 classes; AP against the official instances; mIoU against labels painted from the panoptic PNGs",
    )


def _coco_filtered(variant: str, files: str, phrases: str) -> DatasetSpec:
    """COCO to pre-train on: captions and phrases beside the regions, without the pictures of other benchmarks."""
    folder = "coco/annotations"
    return CocoSpec(
        name=f"coco_2017_train_panoptic_{variant}",
        images="coco/train2017",
        panoptic=f"{folder}/panoptic_train2017_{files}.json",
        panoptic_images="coco/panoptic_train2017",
        captions=f"{folder}/captions_train2017_{files}.json",
        phrases=f"{folder}/grounding_train2017{phrases}.json",
        protocol="to learn from, not to measure on",
    )


def _vlp(part: str, *files: str) -> DatasetSpec:
    """Image-text pairs in ViLT's layout, at the published places."""
    return ArrowSpec(
        name=f"vlp_{part}",
        files=tuple(f"pretrain_arrows_code224/{file}.arrow" for file in files),
        protocol="to learn from, not to measure on",
    )


VLP_FILES = {
    "coco": "filtcoco2017val_coco_caption_karpathy_{train,val,restval}",
    "vg": "code224_vg",
    "sbu": "code224_sbu_{0..8}",
    "cc3m": "code224_conceptual_caption_train_{0..30}",
}
"""The 44 files of image-text pairs; COCO's are without the pictures of val2017, Karpathy's test split is none of them."""


def _coco_kit(split: str) -> DatasetSpec:
    folder = "coco_panoptic/annotations"
    return CocoSpec(
        name=f"coco_kit_{split}",
        images=f"coco_panoptic/images/{split}2017",
        panoptic=f"{folder}/panoptic_{split}2017.json",
        panoptic_images=f"{folder}/panoptic_{split}2017",
        instances=f"{folder}/instances_train2017.json" if split == "train" else None,
        captions=f"{folder}/captions_val2017.json" if split == "val" else None,
        vocabulary="coco_133",
        label_ids=True,
        count=100,
        evaluators=("panoptic", "instance", "semantic", "captioning", "retrieval", "interactive"),
        protocol="100 pictures of COCO 2017 with official annotations, 133 classes; not comparable with the whole split",
    )


def _coco_objects(name: str, folder: str, split: str, official: str, counts: tuple[int, int, int]) -> DatasetSpec:
    """A kit of COCO's instances and captions, numbered as the 133 classes are: of the stuff among these it knows nothing."""
    images, objects, captions = counts
    return CocoSpec(
        name=name,
        images=f"{folder}/{split}",
        instances=f"{folder}/annotations/instances_{official}.json",
        captions=f"{folder}/annotations/captions_{official}.json",
        vocabulary="coco_133",
        label_ids=True,
        complete="things",
        count=images,
        counts=Counts(objects=objects, captions=captions),
        evaluators=("instance", "captioning", "retrieval"),
        protocol=f"{images} pictures of COCO 2017 with official annotations; not comparable with the whole split",
    )


def _flickr8k(name: str, images: str, split: str, count: int) -> DatasetSpec:
    return CaptionsSpec(
        name=f"flickr8k_{name}",
        images=images,
        captions="flickr8k/Flickr8k.token.txt",
        split=split,
        count=count,
        counts=Counts(captions=5 * count),
        evaluators=("captioning", "retrieval"),
        measured_with=_PAIRS,
        protocol="five captions a picture, pictures at 224x224",
    )


def _flickr(number: str, split: str, count: int) -> DatasetSpec:
    home = f"flickr{number}"
    return KarpathySpec(
        name=f"{home}_karpathy_{split}",
        images=f"{home}/images",
        captions=f"{home}/dataset_{home}.json",
        subset=split,
        count=count,
        counts=Counts(captions=5 * count),
        evaluators=("captioning", "retrieval"),
        measured_with=_PAIRS,
        protocol="Karpathy's split, five captions a picture; pictures stretched to 224x224",
    )


_PAIRS = Protocol(transform=Stretch(size=224))
_IMAGENET = ClassFoldersSpec(
    name="imagenet_val",
    images="imagenet/val",
    vocabulary="imagenet_1000",
    label_ids=True,
    count=50000,
    evaluators=("classification",),
    measured_with=Protocol(transform=ShortestSide(size=224, crop=224)),
    protocol="1000 classes by CLIP's names in all templates, the picture's vector against theirs",
)


_EVALUATORS: tuple[EvaluatorName, ...] = (
    "panoptic",
    "instance",
    "semantic",
    "referring",
    "captioning",
    "retrieval",
    "attributes",
    "interactive",
)

CATALOG: dict[str, DatasetSpec] = {
    spec.name: spec
    for spec in (
        _shapes("train", _EVALUATORS),
        _shapes("val", (*_EVALUATORS, "calibration", "vqa")),
        _shapes("novel", _EVALUATORS),
        _shapes_absent("test"),
        _shapes_absent("fit"),
        _camvid("train", 367),
        _camvid("val", 101),
        _camvid("test", 233),
        _coco("train", 118287),
        _coco("val", 5000),
        _coco_filtered("filtkar", "filtkar", ""),
        _coco_filtered("filtrefgumdval", "filtrefgumdval", "_filtrefgumd"),
        _coco_filtered("filtall", "filtrefgumdval_filtvlp", "_filtrefgumdval_filtvlp"),
        *(_vlp(part, file) for part, file in VLP_FILES.items()),
        _vlp("train", *VLP_FILES.values()),
        _coco_kit("train"),
        _coco_kit("val"),
        CocoSpec(
            name="coco_refs",
            images="coco_refs/images",
            phrases="coco_refs/refs.json",
            count=47,
            evaluators=("referring",),
            protocol="207 expressions of RefCOCO/+/g and refcocos on 47 pictures, every sentence",
        ),
        _coco_objects("coco_mini_train", "coco_mini", "train2017", "train2017", (80, 739, 400)),
        _coco_objects("coco_more_train", "coco_more", "train", "train", (286, 2455, 900)),
        _coco_objects("coco_more_val", "coco_more", "val", "val", (50, 348, 250)),
        _flickr8k("train", "flickr8k/images", "flickr8k/train450.txt", 450),
        _flickr8k("train_more", "flickr8k_train/images", "flickr8k_train/train.txt", 4200),
        _flickr8k("dev", "flickr8k_train/dev", "flickr8k_train/dev.txt", 200),
        _flickr8k("test", "flickr8k/images", "flickr8k/test.txt", 1000),
        *(_flickr("8k", split, count) for split, count in (("train", 6000), ("val", 1000), ("test", 1000))),
        *(_flickr("30k", split, count) for split, count in (("train", 29000), ("val", 1014), ("test", 1000))),
        _IMAGENET,
        *coco.SPECS,
        *scenes.SPECS,
        *wild.SPECS,
        *interactive.SPECS,
        *concepts.SPECS,
        OwnSpec(name="own_train", images="", part="train"),
        OwnSpec(name="own_val", images="", part="val"),
    )
}
"""Every data set that a configuration may name. Another one may stand in the YAML as a mapping of `DatasetSpec` fields."""


def find(name: str) -> DatasetSpec:
    """The specification of a named data set; raises ValueError with the nearest known name."""
    if name in CATALOG:
        return CATALOG[name]
    close = difflib.get_close_matches(name, CATALOG, n=1)
    some = f"`xdecoder check --list` prints the {len(CATALOG)} that are known"
    hint = f"did you mean {close[0]!r}?" if close else some
    raise ValueError(f"unknown data set {name!r}; {hint}")
