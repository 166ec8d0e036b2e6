"""Scenes that X-Decoder was measured on without having learnt from them: rooms, streets, photographs of all kinds."""

from __future__ import annotations

from datasets.readers.coco import CocoSpec
from datasets.readers.label_images import LabelImagesSpec
from datasets.spec import DatasetSpec, Protocol
from xdecoder.resizing import ShortestEdge, ShortestSide

_WIDE = Protocol(transform=ShortestEdge(size=640, max_size=2560), object_threshold=0.4)
_STREET = Protocol(transform=ShortestEdge(size=1024, max_size=2048), object_threshold=0.4)
_BDD = Protocol(transform=ShortestSide(size=800), object_threshold=0.4)
_ROOM = Protocol(transform=ShortestSide(size=512), object_threshold=0.4)
_OLD_LIST = '; the published number asked without "background", which cost it the last class'


def _ade(split: str, folder: str, count: int) -> list[DatasetSpec]:
    home = "ADEChallengeData2016"
    images = f"{home}/images/{folder}"
    return [
        CocoSpec(
            name=f"ade20k_panoptic_{split}",
            images=images,
            panoptic=f"{home}/ade20k_panoptic_{split}.json",
            panoptic_images=f"{home}/ade20k_panoptic_{split}",
            instances=f"{home}/ade20k_instance_{split}.json",
            labels=f"{home}/annotations_detectron2/{folder}",
            vocabulary="ade20k_150",
            ignore_value=255,
            count=count,
            evaluators=("panoptic", "instance", "semantic"),
            measured_with=_WIDE,
            protocol="150 classes by their first word; AP over the 100 kinds of objects; mIoU against the original labels; "
            "`python -m datasets.prepare ade20k` makes the files",
        ),
        LabelImagesSpec(
            name=f"ade20k_sem_seg_{split}",
            images=images,
            labels=f"{home}/annotations/{folder}",
            vocabulary="ade20k_150",
            label_offset=1,
            ignore_value=0,
            count=count,
            evaluators=("semantic",),
            measured_with=_WIDE,
            protocol="150 classes by their first word, the labels as handed out",
        ),
    ]


def _ade_full(split: str, folder: str, count: int) -> DatasetSpec:
    home = "ADE20K_2021_17_01"
    return LabelImagesSpec(
        name=f"ade20k_full_sem_seg_{split}",
        images=f"{home}/images_detectron2/{folder}",
        labels=f"{home}/annotations_detectron2/{folder}",
        label_rename=((r"\.jpg$", ".tif"),),
        vocabulary="ade20k_847",
        ignore_value=65535,
        count=count,
        evaluators=("semantic",),
        measured_with=_WIDE,
        protocol="847 classes by their first word, which some share; pictures and labels were shrunk to a short side of 512 "
        "(`python -m datasets.prepare ade20k_full`)",
    )


def _scannet(number: int, vocabulary: str) -> DatasetSpec:
    return LabelImagesSpec(
        name=f"scannet_{number}_val_seg",
        images="scannet_frames_25k/images",
        labels="scannet_frames_25k/images",
        split="scannet_frames_25k/meta/val.txt",
        image_rename=((r"\s.*", ""),),
        label_rename=(("/color/", f"/label{number}/"), (r"\.jpg$", ".png")),
        vocabulary=vocabulary,
        label_offset=1,
        ignore_value=0,
        count=5436,
        evaluators=("semantic",),
        measured_with=_ROOM,
        protocol=f"{number - 1} classes of every hundredth frame" + _OLD_LIST,
    )


_SCANNET_PANOPTIC = CocoSpec(
    name="scannet_21_panoptic_val",
    images="scannet_frames_25k/images",
    panoptic="scannet_frames_25k/scannet_panoptic.json",
    panoptic_images="scannet_frames_25k/scannet_panoptic",
    image_rename=(("__", "/color/"), (r"\.png$", ".jpg")),
    vocabulary="scannet_20",
    label_ids=True,
    count=5436,
    evaluators=("panoptic",),
    measured_with=_ROOM,
    protocol="20 classes, wall and floor are stuff" + _OLD_LIST,
)

_SUN = LabelImagesSpec(
    name="sunrgbd_37_val_seg",
    images="sun_rgbd/image/test",
    labels="sun_rgbd/label37/test",
    pair_by_order=True,
    vocabulary="sunrgbd_37",
    label_offset=1,
    ignore_value=0,
    count=5050,
    evaluators=("semantic",),
    measured_with=_ROOM,
    protocol="37 classes of the 5050 test pictures" + _OLD_LIST,
)


def _cityscapes(split: str, count: int) -> list[DatasetSpec]:
    images, home = f"cityscapes/leftImg8bit/{split}", "cityscapes/gtFine"
    label_ids = {
        "labels": f"{home}/{split}",
        "label_rename": ((r"_leftImg8bit\.png$", "_gtFine_labelIds.png"),),
        "label_ids": True,
        "ignore_value": "others",
    }
    of_panoptic = (r"^([^_]+)_(.*)_gtFine_panoptic\.png$", r"\1/\1_\2_leftImg8bit.png")
    common = {"images": images, "count": count, "measured_with": _STREET}
    made = "`python -m datasets.prepare cityscapes` makes the files"
    return [
        DatasetSpec.model_validate(
            {
                "name": f"cityscapes_fine_sem_seg_{split}",
                "reader": "label_images",
                **label_ids,
                "vocabulary": "cityscapes_19",
                "evaluators": ("semantic",),
                "protocol": "19 classes, full resolution",
                **common,
            }
        ),
        DatasetSpec.model_validate(
            {
                "name": f"cityscapes_fine_panoptic_{split}",
                "reader": "coco",
                **label_ids,
                "vocabulary": "cityscapes_19",
                "panoptic": f"{home}/cityscapes_panoptic_{split}.json",
                "panoptic_images": f"{home}/cityscapes_panoptic_{split}",
                "image_rename": (of_panoptic,),
                "evaluators": ("panoptic", "semantic", "iiou"),
                "protocol": f"19 classes, 8 of them things; {made}",
                **common,
            }
        ),
        DatasetSpec.model_validate(
            {
                "name": f"cityscapes_fine_instance_seg_{split}",
                "reader": "coco",
                "vocabulary": "cityscapes_19:things",
                "label_ids": True,
                "instances": f"{home}/cityscapes_instances_{split}.json",
                "evaluators": ("cityscapes_instance", "instance"),
                "protocol": f"the 8 things alone are asked for; AP by Cityscapes' rule, COCO_AP by COCO's; {made}",
                **common,
            }
        ),
    ]


_BDD_SEMANTIC = LabelImagesSpec(
    name="bdd10k_val_sem_seg",
    images="bdd100k/images/10k/val",
    labels="bdd100k/labels/sem_seg/masks/val",
    vocabulary="cityscapes_19",
    ignore_value=255,
    count=1000,
    evaluators=("semantic",),
    measured_with=_BDD,
    protocol="the 19 classes of Cityscapes",
)

_BDD_PANOPTIC = CocoSpec(
    name="bdd10k_40_panoptic_val",
    images="bdd100k/images/10k/val",
    panoptic="bdd100k/labels/pan_seg/meta/coco_val.json",
    panoptic_images="bdd100k/labels/pan_seg/coco_pano/val",
    image_rename=((r"\.png$", ".jpg"),),
    vocabulary="bdd_40",
    label_ids=True,
    count=1000,
    evaluators=("panoptic",),
    measured_with=_BDD,
    protocol="40 classes, those that BDD itself leaves out of its scores too; `python -m datasets.prepare bdd` makes the files",
)


def _voc(name: str, vocabulary: str, ignored: int | str, fold: int | None, protocol: str) -> DatasetSpec:
    return DatasetSpec.model_validate(
        {
            "name": name,
            "reader": "label_images",
            "images": "VOCdevkit/VOC2012/JPEGImages",
            "labels": "VOCdevkit/VOC2012/SegmentationClass",
            "split": "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt",
            "image_rename": ((r"$", ".jpg"),),
            "vocabulary": vocabulary,
            "label_ids": True,
            "ignore_value": ignored,
            "count": 1449,
            "evaluators": ("semantic",),
            "protocol": protocol,
            "measured_with": _WIDE.model_copy(update={"fold": fold}),
        }
    )


def _context(classes: int, list_file: str, suffix: str, ignored: int, count: int) -> DatasetSpec:
    home = "VOCdevkit/VOC2010"
    return LabelImagesSpec(
        name=f"context_{classes}_val_seg",
        images=f"{home}/JPEGImages",
        labels=f"{home}/annotations_detectron2/pc{classes}_val",
        split=f"{home}/{list_file}",
        image_rename=((r"$", ".jpg"),),
        label_rename=((r"\.jpg$", suffix),),
        vocabulary=f"pascal_context_{classes}",
        ignore_value=ignored,
        count=count,
        evaluators=("semantic",),
        measured_with=_WIDE,
        protocol=f"{classes} classes of the validation pictures of VOC 2010; what none of them is does not count "
        f"(`python -m datasets.prepare context_{classes}`)",
    )


SPECS: tuple[DatasetSpec, ...] = (
    *_ade("train", "training", 20210),
    *_ade("val", "validation", 2000),
    _ade_full("train", "training", 25574),
    _ade_full("val", "validation", 2000),
    _SUN,
    _scannet(21, "scannet_20"),
    _scannet(38, "sunrgbd_37"),
    _scannet(41, "scannet_40"),
    _SCANNET_PANOPTIC,
    *_cityscapes("train", 2975),
    *_cityscapes("val", 500),
    _BDD_SEMANTIC,
    _BDD_PANOPTIC,
    _voc("voc_20_val_seg", "voc_20", "others", None, "PAS-20: the 20 objects; background and borders do not count"),
    _voc("voc_20b_val_seg", "voc_20b", 255, 20, "PAS-20b: asked with 59 classes, of which the last 39 are the background"),
    _context(59, "pc59_val.txt", ".png", 255, 5105),
    _context(459, "pascalcontext_val.txt", ".tif", 459, 5104),
)
