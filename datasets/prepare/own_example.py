"""A small set such as you may have yourself, in each format that `data.own` takes: gems, whose names no network here knows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from datasets.prepare.painting import Painting, compose, paint
from datasets.shapes import SEEN, Pair
from xdecoder.files import write_json

GEMS = {"red": "ruby", "green": "emerald", "blue": "sapphire", "yellow": "topaz"}  # colour → class
CLASSES = tuple(GEMS.values())
GROUND = "ground"  # class of everything else, in the masks

_UNCUT = ("ring",)  # a polygon has no hole

Gem = tuple[int, np.ndarray]  # class and (H, W) bool mask


def prepare(root: str | Path, *, images: int = 60, side: int = 128, seed: int = 0) -> bool:
    """Make `root/own_example` with the folders coco, masks, yolo and folders; the same arguments give the same bytes.

    Returns:
        Whether it was made now; False if it was there already.

    Raises:
        ValueError: for fewer than eight pictures.
    """
    if images < 8:
        raise ValueError(f"own_example needs eight pictures at least, not {images}")
    folder = Path(root) / "own_example"
    if folder.exists():
        return False
    draft = folder.with_name(f".own_example.{os.getpid()}.part")
    try:
        scenes = [_gems(seed, number, side) for number in range(images)]
        for name, write in _WRITERS.items():
            write(draft / name, scenes)
        _write_folders(draft / "folders", images, side, seed)
        os.replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return True


def _gems(seed: int, number: int, side: int, colours: tuple[str, ...] = tuple(GEMS)) -> tuple[np.ndarray, list[Gem]]:
    """A picture (H, W, 3) RGB and what is in it."""
    rng = np.random.default_rng((seed, number, len(colours)))
    pairs: list[Pair] = [pair for pair in SEEN if pair[0] in colours and pair[1] not in _UNCUT]
    scene, stencils = compose(rng, side, pairs, pairs)
    painting: Painting = paint(rng, scene, stencils)
    names = [CLASSES.index(GEMS[thing.colour]) for thing in scene.things]
    masks = [painting.ids == number for number in range(1, len(names) + 1)]
    return painting.pixels, [(label, mask) for label, mask in zip(names, masks, strict=True) if mask.any()]


def _write_coco(folder: Path, scenes: list[tuple[np.ndarray, list[Gem]]]) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (pixels, gems) in enumerate(scenes, start=1):
        name = f"gems_{number:03d}.jpg"
        _write(folder / "images" / name, pixels)
        images.append({"id": number, "file_name": name, "height": pixels.shape[0], "width": pixels.shape[1]})
        for label, mask in gems:
            polygons = [outline.ravel().tolist() for outline in _outlines(mask)]
            row = {"id": len(annotations) + 1, "image_id": number, "category_id": label + 1}
            box = [int(value) for value in cv2.boundingRect(mask.astype(np.uint8))]
            annotations.append(row | {"segmentation": polygons, "bbox": box, "area": int(mask.sum()), "iscrowd": 0})
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)]
    write_json(folder / "annotations.json", {"images": images, "annotations": annotations, "categories": categories})


def _write_masks(folder: Path, scenes: list[tuple[np.ndarray, list[Gem]]]) -> None:
    for number, (pixels, gems) in enumerate(scenes, start=1):
        labels = np.full(pixels.shape[:2], len(CLASSES), dtype=np.uint8)
        for label, mask in gems:
            labels[mask] = label
        _write(folder / "images" / f"gems_{number:03d}.jpg", pixels)
        _write(folder / "masks" / f"gems_{number:03d}.png", labels)
    (folder / "classes.txt").write_text("\n".join((*CLASSES, GROUND)) + "\n")


def _write_yolo(folder: Path, scenes: list[tuple[np.ndarray, list[Gem]]]) -> None:
    first_measured = len(scenes) * 4 // 5
    for number, (pixels, gems) in enumerate(scenes):
        split, name = "train" if number < first_measured else "val", f"gems_{number + 1:03d}"
        _write(folder / "images" / split / f"{name}.jpg", pixels)
        size = np.array(pixels.shape[1::-1])
        lines = [(label, max(_outlines(mask), key=cv2.contourArea) / size) for label, mask in gems]
        text = "".join(f"{label} {' '.join(f'{value:.5f}' for value in corners.ravel())}\n" for label, corners in lines)
        path = folder / "labels" / split / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    settings = {"path": ".", "train": "images/train", "val": "images/val", "names": dict(enumerate(CLASSES))}
    (folder / "data.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))


def _write_folders(folder: Path, images: int, side: int, seed: int) -> None:
    for number in range(images):
        colour = tuple(GEMS)[number % len(GEMS)]
        pixels, _ = _gems(seed, images + number, side, (colour,))
        _write(folder / GEMS[colour] / f"gems_{number + 1:03d}.jpg", pixels)


_WRITERS: dict[str, Callable[[Path, list[tuple[np.ndarray, list[Gem]]]], None]] = {
    "coco": _write_coco,
    "masks": _write_masks,
    "yolo": _write_yolo,
}


def _outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Corners (P, 2) of each connected part, x before y; parts of less than three corners are left out."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [outline[:, 0] for outline in found if len(outline) >= 3]


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    good, data = cv2.imencode(path.suffix, stored, [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix == ".jpg" else [])
    assert good
    path.write_bytes(data.tobytes())
