"""ADE20K, from the downloads to what is read.

`ade20k` (SceneParse 150 with the instances of the 2017 challenge): labels without their offset, and per split a panoptic set
and COCO instances. `ade20k_full` (the 2021 release): pictures and labels of 847 classes at a short side of 512 or less.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.prepare.work import (
    Json,
    box,
    categories,
    each,
    files_below,
    make_images,
    outline,
    read_values,
    segments_info,
    write_image,
    write_panoptic,
)
from xdecoder.files import write_json
from xdecoder.language import vocabularies

SPLITS = {"train": "training", "val": "validation"}
SHORT_SIDE = 512


def prepare(root: Path, workers: int = 1) -> list[Path]:
    """Make `annotations_detectron2`, `ade20k_panoptic_*` and `ade20k_instance_*.json` of each split that is there."""
    home = root / "ADEChallengeData2016"
    made = []
    for split, folder in SPLITS.items():
        panoptic, instances = home / f"ade20k_panoptic_{split}.json", home / f"ade20k_instance_{split}.json"
        made += [panoptic, instances]
        if (panoptic.is_file() and instances.is_file()) or not (home / "annotations" / folder).is_dir():
            continue
        hint = "unpack ADEChallengeData2016.zip and annotations_instance.tar there"
        stems = [path.stem for path in files_below(home / "annotations" / folder, "*.png", hint)]
        ledger = home / f".ade20k_{split}.part"
        rows = each(stems, partial(_picture, home, split), ledger, workers)
        images = [row["image"] for row in rows]
        objects = [{**each_, "id": i} for i, each_ in enumerate((o for row in rows for o in row["objects"]), start=1)]
        write_json(instances, {"images": images, "annotations": objects, "categories": _things()})
        annotations = [row["panoptic"] for row in rows]
        write_json(panoptic, {"images": images, "annotations": annotations, "categories": categories("ade20k_150", 0)})
        ledger.unlink()
    if not any(path.is_file() for path in made):
        raise ValueError(f"{home / 'annotations'}: has neither training nor validation; unpack ADEChallengeData2016.zip there")
    return [path for path in made if path.is_file()]


def _things() -> list[Json]:
    return [row for row in categories("ade20k_150", 0) if row["isthing"]]


def _picture(home: Path, split: str, stem: str) -> Json:
    """Stuff as the label image has it, objects pasted over it; pixels of things that belong to no object are void."""
    folder = SPLITS[split]
    raw = read_values(home / "annotations" / folder / f"{stem}.png")
    drawn = read_values(home / "annotations_instance" / folder / f"{stem}.png")
    path = home / "annotations" / folder / f"{stem}.png"
    if raw.ndim != 2 or raw.max(initial=0) > 150:
        raise ValueError(f"{path}: expected class numbers 0 to 150, as in ADEChallengeData2016.zip")
    if drawn.shape[:2] != raw.shape or drawn.ndim != 3:
        raise ValueError(f"{home / 'annotations_instance' / folder / path.name}: expected an RGB image of the size of {path}")
    labels = raw - 1  # -1 = unlabelled
    write_image(home / "annotations_detectron2" / folder / f"{stem}.png", Image.fromarray((labels % 256).astype(np.uint8)))
    is_thing = np.array([*vocabularies.load("ade20k_150").vocabulary.is_thing, True])  # the last entry is for -1
    thing_label = np.flatnonzero(is_thing[:-1])
    ids = np.where(is_thing[labels], 0, labels + 1)
    classes = {label + 1: (label, 0) for label in range(150)}
    objects = []
    for number in np.unique(drawn[..., 1]).tolist():
        if number == 0:
            continue
        mask = drawn[..., 1] == number
        kind = int(drawn[..., 0][mask][0])
        if not 1 <= kind <= len(thing_label):
            raise ValueError(f"{path.name} of annotations_instance: object {number} has category {kind}; expected 1 to 100")
        label = int(thing_label[kind - 1])
        ids[mask] = 1000 + number
        classes[1000 + number] = (label, 0)
        objects.append(
            {
                "image_id": stem,
                "category_id": label,
                "iscrowd": 0,
                "area": int(mask.sum()),
                "bbox": box(mask),
                "segmentation": outline(mask),
            }
        )
    write_panoptic(home / f"ade20k_panoptic_{split}" / f"{stem}.png", ids)
    return {
        "image": {"id": stem, "file_name": f"{stem}.jpg", "height": raw.shape[0], "width": raw.shape[1]},
        "panoptic": {"image_id": stem, "file_name": f"{stem}.png", "segments_info": segments_info(ids, classes)},
        "objects": objects,
    }


def prepare_full(root: Path, workers: int = 1) -> list[Path]:
    """Make `images_detectron2` and `annotations_detectron2` (16-bit TIFFs, 65535 = none of the classes) of each split."""
    home = root / "ADE20K_2021_17_01"
    made = []
    for folder in SPLITS.values():
        source = home / "images/ADE" / folder
        if not source.is_dir():
            continue
        paths = files_below(source, "**/*_seg.png", "unpack ADE20K_2021_17_01.zip there")
        target = home / "annotations_detectron2" / folder
        made.append(target)
        make_images(
            {target / f"{path.name.removesuffix('_seg.png')}.tif": path for path in paths}, _full_image, folder, workers
        )
    if not made:
        raise ValueError(f"{home / 'images/ADE'}: has neither training nor validation; unpack ADE20K_2021_17_01.zip there")
    return made


def _full_image(item: tuple[Path, Path]) -> None:
    """The class number is hidden in two of the colours: tens of red times 256, plus green."""
    target, source = item
    colours = read_values(source)
    if colours.ndim != 3:
        raise ValueError(f"{source}: expected an RGB image")
    numbers = colours[..., 0] // 10 * 256 + colours[..., 1]
    label_of = np.full(max(4096, int(numbers.max()) + 1), 65535, dtype=np.uint16)
    for label, key in enumerate(vocabularies.load("ade20k_847").ids):
        label_of[int(key or 0)] = label
    labels = Image.fromarray(label_of[numbers])
    image = Image.fromarray(read_values(source.with_name(f"{target.stem}.jpg")).astype(np.uint8)).convert("RGB")
    if min(image.size) > SHORT_SIDE:
        factor = SHORT_SIDE / min(image.size)
        size = (round(image.width * factor), round(image.height * factor))
        image, labels = image.resize(size, Image.Resampling.BILINEAR), labels.resize(size, Image.Resampling.NEAREST)
    write_image(target.parents[2] / "images_detectron2" / target.parent.name / f"{target.stem}.jpg", image, quality=95)
    write_image(target, labels)
