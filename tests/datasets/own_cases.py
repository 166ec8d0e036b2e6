"""Sets as people have them, made here: six pictures of a box and a disc, and one thing about each set that is not as usual."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = (64, 48)
BOX, DISC = [16.0, 9.0, 28.0, 9.0, 28.0, 19.0, 16.0, 19.0], [46.0, 16.0, 41.0, 21.0, 36.0, 16.0, 41.0, 11.0]

Json = dict[str, Any]


def pixels(number: int) -> np.ndarray:
    """(48, 64, 3) uint8: a red box and a blue disc on grey."""
    image = np.full((48, 64, 3), 100 + 5 * number, dtype=np.uint8)
    image[9:19, 16:28] = (200, 30, 30)
    image[12:20, 37:45] = (30, 30, 200)
    return image


def save(folder: Path, name: str, number: int, orientation: int = 1) -> None:
    """A picture; `orientation` is EXIF's, and the pixels are stored so that it is displayed upright."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels(number))
    exif = Image.Exif()
    if orientation == 6:
        image = image.transpose(Image.Transpose.ROTATE_90)
    if orientation != 1:
        exif[0x0112] = orientation
    image.save(path, exif=exif)


def coco(folder: Path, change: Callable[[Json], Any] = lambda content: None, orientation: int = 1) -> Path:
    """A COCO set, its JSON changed."""
    folder.mkdir(parents=True, exist_ok=True)
    content: Json = {
        "images": [{"id": i + 1, "file_name": f"p{i}.jpg", "width": 64, "height": 48} for i in range(6)],
        "categories": [{"id": 1, "name": "box"}, {"id": 2, "name": "disc"}],
        "annotations": [
            {"id": 2 * i + k, "image_id": i + 1, "category_id": k, "segmentation": [list(outline)], "area": 100, "iscrowd": 0}
            for i in range(6)
            for k, outline in ((1, BOX), (2, DISC))
        ],
    }
    changed = change(content)
    text = changed if isinstance(changed, (str, bytes)) else json.dumps(content)
    (folder / "annotations.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    for i in range(6):
        save(folder / "images", f"p{i}.jpg", i, orientation)
    return folder


def each(key: str, **fields: Any) -> Callable[[Json], None]:
    """A change of all entries of a list."""

    def change(content: Json) -> None:
        for row in content[key]:
            row.update(fields)

    return change


def outline(segmentation: Any, first_only: bool = False) -> Callable[[Json], None]:
    """A change of the outlines: of all, or of the first."""

    def change(content: Json) -> None:
        for row in content["annotations"][: 1 if first_only else None]:
            row["segmentation"] = segmentation

    return change


LINES = ["0 " + " ".join(f"{v / (64, 48)[i % 2]:.4f}" for i, v in enumerate(BOX))]
LINES += ["1 " + " ".join(f"{v / (64, 48)[i % 2]:.4f}" for i, v in enumerate(DISC))]


def yolo(folder: Path, yaml: str | None = "names: [box, disc]\n", lines: list[str] = LINES, suffix: str = ".jpg") -> Path:
    """A YOLO set with splits."""
    for i in range(6):
        side = "train" if i < 4 else "val"
        save(folder / "images" / side, f"p{i}{suffix}", i)
        text = folder / "labels" / side / f"p{i}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text("\n".join(lines) + "\n")
    if yaml is not None:
        (folder / "data.yaml").write_text(yaml)
    return folder


def masks(
    folder: Path,
    classes: bytes | None = b"floor\nbox\ndisc\n",
    images: str = "images",
    labels: str = "masks",
    suffix: str = ".png",
    mode: str = "L",
) -> Path:
    """Pictures and masks."""
    for i in range(6):
        save(folder / images, f"p{i}.jpg", i)
        values = np.zeros((48, 64), dtype=np.uint8)
        values[9:19, 16:28] = 1
        values[12:20, 37:45] = 1 if mode == "1" else 2
        path = folder / labels / f"p{i}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(values)
        if mode == "P":
            image.putpalette([0, 0, 0, 200, 0, 0, 0, 0, 200])
        (image.point(lambda v: 255 * v, "1") if mode == "1" else image).save(path)
    if classes is not None:
        (folder / "classes.txt").write_bytes(classes)
    return folder


def voc(folder: Path, labelmap: str | None = None) -> Path:
    """Pascal VOC's folders."""
    masks(folder, None, "JPEGImages", "SegmentationClass", mode="P")
    lists = folder / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("p0\np1\np2\np3\n")
    (lists / "val.txt").write_text("p4\np5\n")
    if labelmap:
        (folder / "labelmap.txt").write_text(labelmap)
    return folder


def labelme(folder: Path, kind: str = "polygon") -> Path:
    """LabelMe's JSONs beside the pictures."""
    for i in range(6):
        save(folder, f"p{i}.jpg", i)
        corners = [BOX[at : at + 2] for at in (0, 2, 4, 6)]
        shapes = [
            {"label": "box", "points": corners[::2] if kind == "rectangle" else corners, "shape_type": kind},
            {"label": "disc", "points": [[41, 16], [46, 16]], "shape_type": "circle"},
        ]
        content = {"version": "5", "imagePath": f"p{i}.jpg", "imageData": None, "shapes": shapes}
        (folder / f"p{i}.json").write_text(json.dumps(content | {"imageHeight": 48, "imageWidth": 64}))
    return folder


def class_folders(folder: Path) -> Path:
    for i in range(8):
        save(folder / ("box" if i % 2 else "disc"), f"p{i}.jpg", i)
    return folder


def pipe(path: Path) -> Path:
    """A named pipe where a file should be: opening it would wait for ever."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path
