"""Pascal Context: label images of the 59 common classes, from its JSON, and of all 459, from its MATLAB files."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datasets.outlines import outline_mask
from datasets.prepare.work import make_images, write_image
from xdecoder.files import atomic, read_json, read_lines
from xdecoder.language import vocabularies


def prepare_59(root: Path, workers: int = 1) -> list[Path]:
    """Make `annotations_detectron2/pc59_val` and its list from `trainval_merged.json`."""
    home = root / "VOCdevkit/VOC2010"
    source = home / "trainval_merged.json"
    content = read_json(source)
    painted: dict[int, list[tuple[int, Any]]] = defaultdict(list)
    try:
        pictures = [row for row in content["images"] if row["phase"] == "val"]
        sizes = {row["image_id"]: (row["height"], row["width"]) for row in pictures}
        stems = {Path(row["file_name"]).stem: row["image_id"] for row in pictures}
        for row in content["annos_segmentation"]:
            if row["image_id"] in sizes:
                painted[row["image_id"]].append((row["category_id"], row["segmentation"]))
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{source}: expected the JSON of Pascal in Detail, with 'images' and 'annos_segmentation' (missing: {error})"
        ) from None
    target = home / "annotations_detectron2/pc59_val"
    paths = {target / f"{stem}.png": (*sizes[key], painted[key]) for stem, key in sorted(stems.items())}
    make_images(paths, _paint, "pc59_val", workers)
    with atomic(home / "pc59_val.txt", "w") as file:
        file.writelines(f"{stem}\n" for stem in sorted(stems))
    return [target, home / "pc59_val.txt"]


def _paint(item: tuple[Path, tuple[int, int, list[tuple[int, Any]]]]) -> None:
    target, (height, width, objects) = item
    label_of = np.full(1024, 255, dtype=np.uint8)
    for label, key in enumerate(vocabularies.load("pascal_context_59").ids):
        label_of[int(key or 0)] = label
    values = np.zeros((height, width), dtype=np.int64)
    for category, outline in objects:  # later ones lie above
        values[outline_mask(outline, height, width, f"trainval_merged.json, picture {target.stem}")] = category
    write_image(target, Image.fromarray(label_of[values]))


def prepare_459(root: Path, workers: int = 1) -> list[Path]:
    """Make `annotations_detectron2/pc459_val` (16-bit TIFFs) from `trainval/*.mat` of the pictures in pascalcontext_val.txt."""
    home = root / "VOCdevkit/VOC2010"
    target = home / "annotations_detectron2/pc459_val"
    stems = read_lines(home / "pascalcontext_val.txt")
    make_images({target / f"{stem}.tif": home / "trainval" / f"{stem}.mat" for stem in stems}, _matlab, "pc459_val", workers)
    return [target]


def _matlab(item: tuple[Path, Path]) -> None:
    from scipy.io import loadmat

    target, path = item
    if not path.is_file():
        raise ValueError(f"{path}: no such file; unpack Pascal Context's trainval.tar.gz in {path.parent.parent}")
    try:
        values = np.asarray(loadmat(path, variable_names=["LabelMap"])["LabelMap"]).astype(np.int64)
    except (KeyError, ValueError, TypeError, OSError, NotImplementedError) as error:
        raise ValueError(f"{path}: expected a MATLAB file with a LabelMap ({error})") from None
    if values.ndim != 2 or values.min(initial=1) < 1 or values.max(initial=1) > 460:
        raise ValueError(f"{path}: expected class numbers 1 to 459, or 460 for unknown")
    write_image(target, Image.fromarray((values - 1).astype(np.uint16)))
