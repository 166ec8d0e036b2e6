"""ScanNet: label images of 20, 37 and 40 classes and a panoptic set, from every hundredth frame as it is handed out."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.prepare.work import Json, categories, each, files_below, read_values, segments_info, write_image, write_panoptic
from xdecoder.files import atomic, read_lines, write_json
from xdecoder.language import vocabularies

FOLDERS = {"label21": "scannet_20", "label38": "sunrgbd_37", "label41": "scannet_40"}


def prepare(root: Path, workers: int = 1) -> list[Path]:
    """Make `label21`, `label38`, `label41` beside each `label`, `meta/val.txt` and `scannet_panoptic`.

    The frames are those of the scenes in `meta/scannetv2_val.txt`, or of all scenes that are there.
    """
    home = root / "scannet_frames_25k"
    target = home / "scannet_panoptic.json"
    if target.is_file():
        return [target]
    scenes = home / "meta/scannetv2_val.txt"
    wanted = set(read_lines(scenes)) if scenes.is_file() else None
    paths = files_below(home / "images", "*/label/*.png", "unpack scannet_frames_25k.zip so that its scenes lie in images")
    names = [path.relative_to(home / "images").as_posix() for path in paths]
    names = [name for name in names if wanted is None or name.split("/")[0] in wanted]
    if not names:
        raise ValueError(f"{scenes}: lists no scene of {home / 'images'}")
    ledger = home / ".scannet_val.part"
    rows = each(names, partial(_frame, home), ledger, workers)
    with atomic(home / "meta/val.txt", "w") as file:
        for name in names:
            file.write(f"{name.replace('/label/', '/color/').replace('.png', '.jpg')} {name}\n")
    images, annotations = [row["image"] for row in rows], [row["panoptic"] for row in rows]
    write_json(target, {"images": images, "annotations": annotations, "categories": categories("scannet_20")})
    ledger.unlink()
    return [target, home / "meta/val.txt"]


def _frame(home: Path, name: str) -> Json:
    """Labels are numbers of NYU40; instances are 1000 times that number plus one of the object."""
    path = home / "images" / name
    labels = read_values(path)
    if labels.ndim != 2 or labels.max(initial=0) > 40:
        raise ValueError(f"{path}: expected class numbers 0 to 40")
    scene, frame = path.parent.parent, path.stem
    for folder, vocabulary in FOLDERS.items():
        value_of = np.zeros(41, dtype=np.uint8)
        for place, key in enumerate(vocabularies.load(vocabulary).ids, start=1):
            value_of[int(key or 0)] = place
        write_image(scene / folder / f"{frame}.png", Image.fromarray(value_of[labels]))
    found = vocabularies.load("scannet_20")
    thing = dict(zip(found.ids, found.vocabulary.is_thing, strict=True))
    ids = read_values(scene / "instance" / f"{frame}.png")
    if ids.shape != labels.shape:
        raise ValueError(f"{scene / 'instance' / path.name}: is not of the size of {path}")
    classes = {}
    for value in np.unique(ids).tolist():
        category = value // 1000
        if category not in thing:
            ids[ids == value] = 0
        elif not thing[category]:
            ids[ids == value] = category * 1000
        classes[value if thing.get(category) else category * 1000] = (category, 0)
    png = f"{scene.name}__{frame}.png"
    write_panoptic(home / "scannet_panoptic" / png, ids)
    return {
        "image": {"id": png.removesuffix(".png"), "file_name": f"{scene.name}/color/{frame}.jpg"},
        "panoptic": {"image_id": png.removesuffix(".png"), "file_name": png, "segments_info": segments_info(ids, classes)},
    }
