"""Objects on which clicks are counted: the sets of interactive segmentation, as f-BRS and RITM hand them out."""

from __future__ import annotations

from datasets.readers.coco import CocoSpec
from datasets.readers.objects import ObjectsSpec
from datasets.spec import Counts, DatasetSpec, Protocol
from datasets.transforms import ShortestEdge

_PUBLISHED = Protocol(transform=ShortestEdge(size=800, max_size=1333), rule="published")
_CLICKS = "clicks until the IoU is reached, 20 at most, the first one in the object's middle"


def _objects(
    name: str,
    images: str,
    masks: str,
    count: int,
    *,
    objects: int | None = None,
    split: str | None = None,
    ignore_value: int | None = None,
    one_object: bool = True,
    protocol: str = "",
) -> ObjectsSpec:
    return ObjectsSpec(
        name=name,
        images=images,
        masks=masks,
        split=split,
        ignore_value=ignore_value,
        one_object=one_object,
        count=count,
        counts=Counts(objects=(objects or count) if one_object else None),  # others have several in one image
        evaluators=("interactive",),
        measured_with=_PUBLISHED,
        protocol=_CLICKS + (f"; {protocol}" if protocol else ""),
    )


def _kit(split: str, count: int, objects: int) -> CocoSpec:
    return CocoSpec(
        name=f"coco_mval_kit_{split}",
        images=f"coco_mval/{split}",
        instances=f"coco_mval/annotations/objects_{split}.json",
        captions=f"coco_mval/annotations/captions_{split}.json",
        vocabulary="coco_133",
        label_ids=True,
        complete="none",
        count=count,
        counts=Counts(objects=objects, captions=5 * count),
        evaluators=("interactive", "captioning", "retrieval"),
        measured_with=_PUBLISHED,
        protocol=f"{_CLICKS}; pictures at 352 pixels, so not comparable with published numbers on COCO-MVal",
    )


_VOC = "VOCdevkit/VOC2012"
_VOC_LIST = f"{_VOC}/ImageSets/Segmentation/val.txt"

SPECS: tuple[DatasetSpec, ...] = (
    _objects("grabcut", "GrabCut/data_GT", "GrabCut/boundary_GT", 50, ignore_value=128, protocol="borders do not count"),
    _objects("berkeley", "Berkeley/images", "Berkeley/masks", 96, objects=100),
    _objects("davis_345", "DAVIS/img", "DAVIS/gt", 345),
    _objects("coco_mval", "COCO_MVal/img", "COCO_MVal/gt", 800),
    _objects(
        "pascal_voc_interactive_val",
        f"{_VOC}/JPEGImages",
        f"{_VOC}/SegmentationObject",
        1449,
        split=_VOC_LIST,
        ignore_value=255,
        one_object=False,
        protocol="every object of the validation pictures by its palette index; borders do not count",
    ),
    _objects(
        "sbd_interactive_val",
        "SBD/img",
        "SBD/inst_png",
        2857,
        split="SBD/val.txt",
        one_object=False,
        protocol="every object (`python -m datasets.prepare sbd` makes the masks)",
    ),
    _objects(
        "grabcut_kit", "grabcut", "grabcut", 50, split="grabcut/list.txt", ignore_value=128, protocol="borders do not count"
    ),
    _objects("berkeley_kit", "berkeley", "berkeley", 96, objects=100, split="berkeley/list.txt"),
    _kit("train", 583, 646),
    _kit("val", 103, 114),
)
