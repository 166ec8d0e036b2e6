"""Cityscapes and BDD100K: panoptic sets, and COCO instances, from the label images as they are handed out."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from datasets.prepare.work import (
    Json,
    box,
    categories,
    each,
    files_below,
    outline,
    read_values,
    segments_info,
    write_panoptic,
)
from xdecoder.files import write_json
from xdecoder.language import vocabularies

GROUP = 1000  # in Cityscapes, smaller values are classes as a whole, larger ones 1000 times the class plus a number


def prepare_cityscapes(root: Path, workers: int = 1) -> list[Path]:
    """Make `cityscapes_panoptic_*` and `cityscapes_instances_*.json` from `*_gtFine_instanceIds.png`."""
    home = root / "cityscapes/gtFine"
    made = []
    for split in ("train", "val"):
        panoptic, instances = home / f"cityscapes_panoptic_{split}.json", home / f"cityscapes_instances_{split}.json"
        made += [panoptic, instances]
        if (panoptic.is_file() and instances.is_file()) or not (home / split).is_dir():
            continue
        paths = files_below(home / split, "*/*_gtFine_instanceIds.png", "unpack gtFine_trainvaltest.zip there")
        ledger = home / f".cityscapes_{split}.part"
        names = [path.relative_to(home / split).as_posix() for path in paths]
        rows = each(names, partial(_cityscapes_image, home, split), ledger, workers)
        annotations = [row["panoptic"] for row in rows]
        named = [{**row["image"], "file_name": Path(row["panoptic"]["file_name"]).name} for row in rows]
        write_json(panoptic, {"images": named, "annotations": annotations, "categories": categories("cityscapes_19")})
        objects = [{**o, "id": i} for i, o in enumerate((o for row in rows for o in row["objects"]), start=1)]
        images = [{**row["image"], "unlabelled": row["unlabelled"]} for row in rows]
        write_json(instances, {"images": images, "annotations": objects, "categories": categories("cityscapes_19:things")})
        ledger.unlink()
    if not any(path.is_file() for path in made):
        raise ValueError(f"{home}: has neither train nor val; unpack gtFine_trainvaltest.zip in {home.parent}")
    return [path for path in made if path.is_file()]


def _cityscapes_image(home: Path, split: str, name: str) -> Json:
    ids = read_values(home / split / name)
    if ids.ndim != 2:
        raise ValueError(f"{home / split / name}: expected one number a pixel, as gtFine has them")
    stem = Path(name).name.removesuffix("_gtFine_instanceIds.png")
    found = vocabularies.load("cityscapes_19")
    thing = dict(zip(found.ids, found.vocabulary.is_thing, strict=True))
    classes, objects = {}, []
    unlabelled = (ids < GROUP) & ~np.isin(ids, [each for each in found.ids if isinstance(each, int)])
    for value in np.unique(ids).tolist():
        category = value // GROUP if value >= GROUP else value
        if category not in thing:
            ids[ids == value] = 0
            continue
        crowd = int(thing[category] and value < GROUP)
        classes[value] = (category, crowd)
        if thing[category]:
            mask = ids == value
            objects.append(
                {
                    "image_id": stem,
                    "category_id": category,
                    "iscrowd": crowd,
                    "area": int(mask.sum()),
                    "bbox": box(mask),
                    "segmentation": outline(mask),
                }
            )
    write_panoptic(home / f"cityscapes_panoptic_{split}" / f"{stem}_gtFine_panoptic.png", ids)
    image = {
        "id": stem,
        "file_name": (Path(name).parent / f"{stem}_leftImg8bit.png").as_posix(),
        "height": ids.shape[0],
        "width": ids.shape[1],
    }
    return {
        "image": image,
        "unlabelled": outline(unlabelled),
        "panoptic": {
            "image_id": stem,
            "file_name": f"{stem}_gtFine_panoptic.png",
            "segments_info": segments_info(ids, classes),
        },
        "objects": objects,
    }


def prepare_bdd(root: Path, workers: int = 1) -> list[Path]:
    """Make `coco_pano/val` and `meta/coco_val.json` from the panoptic bitmasks of BDD100K."""
    home = root / "bdd100k/labels/pan_seg"
    target = home / "meta/coco_val.json"
    if target.is_file():
        return [target]
    hint = "unpack bdd100k_pan_seg_labels_trainval.zip so that bdd100k/labels/pan_seg/bitmasks/val is there"
    names = [path.name for path in files_below(home / "bitmasks/val", "*.png", hint)]
    ledger = home / ".bdd_val.part"
    rows = each(names, partial(_bdd_image, home), ledger, workers)
    images, annotations = [row["image"] for row in rows], [row["panoptic"] for row in rows]
    write_json(target, {"images": images, "annotations": annotations, "categories": categories("bdd_40")})
    ledger.unlink()
    return [target]


def _bdd_image(home: Path, name: str) -> Json:
    """Red: the class; green: bits of which 1 is "ignored" and 2 "crowd"; blue and alpha: the object's number."""
    values = read_values(home / "bitmasks/val" / name)
    if values.ndim != 3 or values.shape[2] != 4:
        raise ValueError(f"{home / 'bitmasks/val' / name}: expected a bitmask of BDD100K, an RGBA image")
    category, bits, number = values[..., 0], values[..., 1], values[..., 2] * 256 + values[..., 3]
    if category.max() > 40:
        raise ValueError(f"{home / 'bitmasks/val' / name}: holds class {category.max()}; expected 0 to 40")
    keys = np.where(category == 0, -1, category * 65536 + number)
    found = [key for key in np.unique(keys).tolist() if key >= 0]
    ids, classes = np.zeros_like(keys), {}
    for new, key in enumerate(found, start=1):
        mask = keys == key
        ids[mask] = new
        classes[new] = (key // 65536, int(bool(bits[mask][0] & 3)))
    write_panoptic(home / "coco_pano/val" / name, ids)
    stem = Path(name).stem
    return {
        "image": {"id": stem, "file_name": f"{stem}.jpg", "height": ids.shape[0], "width": ids.shape[1]},
        "panoptic": {"image_id": stem, "file_name": name, "segments_info": segments_info(ids, classes)},
    }
