"""What is drawn on COCO's pictures: objects, stuff, expressions, questions, captions."""

from __future__ import annotations

from datasets.readers.coco import CocoSpec
from datasets.readers.grefer import GreferSpec
from datasets.readers.karpathy import KarpathySpec
from datasets.readers.label_images import LabelImagesSpec
from datasets.readers.vqa import VqaSpec
from datasets.spec import Counts, DatasetSpec, Protocol
from xdecoder.resizing import ShortestEdge, Stretch

_PAIRS = Protocol(transform=Stretch(size=224))
_REFERRING = Protocol(transform=ShortestEdge(size=512, max_size=1024), together=True)
_QUESTIONS = Protocol(transform=Stretch(size=640, bicubic=True))
_TEN_THOUSANDS = {"train": 118287, "val": 5000}


def _instances(split: str) -> DatasetSpec:
    return CocoSpec(
        name=f"coco_2017_{split}_instance",
        images=f"coco/{split}2017",
        instances=f"coco/annotations/instances_{split}2017.json",
        vocabulary="coco_133:things",
        label_ids=True,
        count=_TEN_THOUSANDS[split],
        evaluators=("instance",),
        protocol="the 80 objects alone, 100 of a picture",
    )


def _semantic(split: str) -> DatasetSpec:
    return LabelImagesSpec(
        name=f"coco_2017_{split}_semantic",
        images=f"coco/{split}2017",
        labels=f"coco/panoptic_semseg_{split}2017",
        vocabulary="coco_133",
        ignore_value=255,
        count=_TEN_THOUSANDS[split],
        evaluators=("semantic",),
        protocol="133 classes, labels painted from the panoptic PNGs (`python -m datasets.prepare coco_semantic`)",
    )


def _stuff(split: str) -> DatasetSpec:
    return LabelImagesSpec(
        name=f"coco_stuff_171_{split}",
        images=f"coco/{split}2017",
        labels=f"coco/stuffthingmaps/{split}2017",
        vocabulary="coco_stuff_171",
        label_ids=True,
        label_offset=-1,
        ignore_value="others",
        count=_TEN_THOUSANDS[split],
        evaluators=("semantic",),
        measured_with=Protocol(transform=ShortestEdge(size=640, max_size=2560)),
        protocol="80 things and 91 kinds of stuff, the pixel maps as handed out; SED learns from the training split",
    )


def _karpathy(split: str, count: int, captions: int) -> DatasetSpec:
    return KarpathySpec(
        name=f"coco_karpathy_{split}",
        images="coco",
        captions="coco/annotations/dataset_coco.json",
        subset=split,
        count=count,
        counts=Counts(captions=captions),
        evaluators=("captioning", "retrieval"),
        measured_with=_PAIRS,
        protocol="Karpathy's split of COCO 2014, the whole of it as one pool; pictures stretched to 224x224",
    )


# Of each data set its folder's name, who split it, and per split the numbers of pictures and sentences.
_REFERRED: dict[tuple[str, str, str], dict[str, tuple[int, int]]] = {
    ("refcoco", "refcoco", "unc"): {
        "train": (16994, 120624),
        "val": (1500, 10834),
        "testA": (750, 5657),
        "testB": (750, 5095),
    },
    ("refcocop", "refcoco+", "unc"): {
        "train": (16992, 120191),
        "val": (1500, 10758),
        "testA": (750, 5726),
        "testB": (750, 4889),
    },
    ("refcocog", "refcocog", "umd"): {"train": (21899, 80512), "val": (1300, 4896), "test": (2600, 9602)},
    ("refcocog", "refcocog", "google"): {"train": (24698, 85474), "val": (4650, 9536)},
}


def _referring() -> list[DatasetSpec]:
    """Each split twice: as the JSON that the published code reads, and (`refer_...`) as its authors hand it out."""
    specs = []
    for (data, folder, by), splits in _REFERRED.items():
        first_only = (data, by) == ("refcocog", "umd")
        how = "the first sentence of each object, as published" if first_only else "every sentence"
        for split, (count, sentences) in splits.items():
            common = {
                "images": "coco/train2017",
                "count": count,
                "counts": Counts(sentences=sentences),
                "evaluators": ("referring",),
                "measured_with": _REFERRING.model_copy(update={"all_sentences": not first_only}),
                "protocol": f"{by}'s split; {how}",
            }
            json = {"reader": "coco", "phrases": f"coco/annotations/{data}_{by}_{split}.json"}
            handed_out = {
                "reader": "refer",
                "phrases": f"refcocoseg/{folder}/refs({by}).p",
                "instances": f"refcocoseg/{folder}/instances.json",
                "subset": split,
                "image_rename": (("COCO_train2014_", ""),),
            }
            name = f"{data}_{split}_{by}"
            specs += [
                DatasetSpec.model_validate({"name": name, **json, **common}),
                DatasetSpec.model_validate({"name": f"refer_{name}", **handed_out, **common}),
            ]
    return specs


def _grefcoco(split: str) -> DatasetSpec:
    return GreferSpec(
        name=f"grefcoco_{split}_unc",
        images="coco/train2014",
        phrases="grefcoco/grefs(unc).json",
        instances="grefcoco/instances.json",
        subset=split,
        evaluators=("grefcoco",),
        measured_with=_REFERRING.model_copy(update={"together": False}),
        protocol="every sentence; nothing is said to be there where the score is below the network's threshold",
    )


def _vqa(split: str, pictures: str, count: int | None, questions: int) -> DatasetSpec:
    answers = None if "test" in split else f"vqa/v2_mscoco_{split}_annotations.json"
    return VqaSpec(
        name=f"vqav2_{split}",
        images=f"coco/{pictures}",
        questions=f"vqa/v2_OpenEnded_mscoco_{split}_questions.json",
        answers=answers,
        count=count,
        counts=Counts(questions=questions),
        evaluators=("vqa",) if answers else (),
        measured_with=_QUESTIONS,
        protocol="open-ended questions, ten people's answers, official normalisation",
    )


SPECS: tuple[DatasetSpec, ...] = (
    *map(_instances, _TEN_THOUSANDS),
    *map(_semantic, _TEN_THOUSANDS),
    *map(_stuff, _TEN_THOUSANDS),
    _karpathy("train", 82783, 414113),
    _karpathy("restval", 30504, 152634),
    _karpathy("val", 5000, 25010),
    _karpathy("test", 5000, 25010),
    *_referring(),
    *map(_grefcoco, ("train", "val", "testA", "testB")),
    _vqa("train2014", "train2014", 82783, 443757),
    _vqa("val2014", "val2014", 40504, 214354),
    _vqa("test-dev2015", "test2015", None, 107394),
)
