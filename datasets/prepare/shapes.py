"""Writing the generated set in the field's formats: COCO panoptic, instances and captions, RefCOCO's merged form, VQA."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as rle
from tqdm import tqdm

from datasets.prepare.absent import write_absent
from datasets.prepare.painting import Painting, compose, paint
from datasets.shapes import HELD_OUT, SEEN, SHAPES, STUFF, Thing, captions, phrases, questions
from xdecoder.files import read_json

VERSION = 5  # of the files: another number when the same seed makes something else
PEOPLE = 4  # who gave an answer: as many as make it wholly right
SPLITS = ("train", "val", "novel")

Json = dict[str, Any]

CATEGORIES = [
    {"id": i, "name": name, "isthing": int(name in SHAPES), "supercategory": "thing" if name in SHAPES else "stuff"}
    for i, name in enumerate((*SHAPES, *STUFF), start=1)
]
_CATEGORY_ID = {row["name"]: row["id"] for row in CATEGORIES}


def prepare(
    root: str | Path,
    *,
    train: int = 4000,
    val: int = 300,
    novel: int = 200,
    side: int = 128,
    seed: int = 0,
    force: bool = False,
) -> bool:
    """Make `root/shapes`; the same arguments give the same bytes. It appears under that name only when complete.

    Args:
        root: the data root.
        train, val, novel: pictures of each split.
        side: pixels of the square pictures.
        seed: of everything random.
        force: replace a set of other parameters.

    Returns:
        Whether it was made now; False if it was there already.

    Raises:
        ValueError: if one of other parameters is there, or a count is wrong.
    """
    settings = {"version": VERSION, "train": train, "val": val, "novel": novel, "side": side, "seed": seed}
    if min(train, val, novel) < 1 or side < 64:
        raise ValueError("the generated set needs at least one picture a split and 64 pixels a side")
    folder = Path(root) / "shapes"
    if folder.exists() and not force:
        _check_same(folder, settings)
        write_absent(folder, "val", seed)  # which sets of earlier days lack
        return False
    draft = folder.with_name(f".shapes.{os.getpid()}.part")
    try:
        counts = dict(zip(SPLITS, (train, val, novel), strict=True))
        with tqdm(total=sum(counts.values()), unit="scene", desc="drawing shapes", disable=None) as progress:
            for split, count in counts.items():
                _write_split(draft, split, count, side, seed, progress)
        write_absent(draft, "val", seed)
        _dump(draft / "shapes.json", settings)
        _move(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return True


def _check_same(folder: Path, settings: Mapping[str, int]) -> None:
    found = read_json(folder / "shapes.json") if (folder / "shapes.json").is_file() else None
    if found is None:
        raise ValueError(f"{folder} exists, but is no generated set (it has no shapes.json); move it away or use another root")
    if found != settings:
        keys = [key for key in settings if not isinstance(found, dict) or found.get(key) != settings[key]]
        raise ValueError(f"{folder} was generated with another {' and '.join(keys) or 'format'}; use --force to replace it")


def _move(draft: Path, folder: Path) -> None:
    old = folder.with_name(f".shapes.{os.getpid()}.old")
    if folder.exists():
        os.replace(folder, old)
    os.replace(draft, folder)
    shutil.rmtree(old, ignore_errors=True)


@dataclass
class _Files:
    """The JSONs of one split as they grow."""

    images: list[Json] = field(default_factory=list)
    panoptic: list[Json] = field(default_factory=list)
    instances: list[Json] = field(default_factory=list)
    phrases: list[Json] = field(default_factory=list)
    captions: list[Json] = field(default_factory=list)
    scenes: list[Json] = field(default_factory=list)
    questions: list[Json] = field(default_factory=list)
    answers: list[Json] = field(default_factory=list)
    sentences: int = 0

    def write(self, folder: Path, split: str) -> None:
        things = [row for row in CATEGORIES if row["isthing"]]
        for kind, categories in (("panoptic", CATEGORIES), ("instances", things), ("phrases", things), ("captions", None)):
            content = {"images": self.images, "annotations": getattr(self, kind)}
            _dump(folder / f"{kind}_{split}.json", content | ({"categories": categories} if categories else {}))
        _dump(folder / f"scenes_{split}.json", {"images": self.scenes})
        _dump(folder / f"questions_{split}.json", {"data_subtype": split, "questions": self.questions})
        _dump(folder / f"answers_{split}.json", {"data_subtype": split, "annotations": self.answers})


def _write_split(folder: Path, split: str, count: int, side: int, seed: int, progress: tqdm[Any]) -> None:
    images, maps = folder / "images" / split, folder / "annotations" / f"panoptic_{split}"
    images.mkdir(parents=True)
    maps.mkdir(parents=True)
    files = _Files()
    for number in range(1, count + 1):
        rng = np.random.default_rng((seed, SPLITS.index(split), number))
        scene, stencils = compose(rng, side, HELD_OUT if split == "novel" else SEEN, SEEN)
        painting = paint(rng, scene, stencils)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        _write_image_file(images / f"{number:06d}.jpg", painting.pixels[..., ::-1], quality)
        red = np.zeros_like(painting.pixels)
        red[..., 2] = painting.ids  # ids below 256 are in the red channel, which OpenCV counts last
        _write_image_file(maps / f"{number:06d}.png", red, [cv2.IMWRITE_PNG_COMPRESSION, 3])
        _annotate(files, painting, number, split, seed, rng)
        progress.update()
    files.write(folder / "annotations", split)


def _annotate(files: _Files, painting: Painting, number: int, split: str, seed: int, rng: np.random.Generator) -> None:
    scene, side = painting.scene, painting.scene.side
    files.images.append({"id": number, "file_name": f"{number:06d}.jpg", "height": side, "width": side})
    names = [*(thing.shape for thing in scene.things), scene.upper, scene.lower]
    segments = []
    for id, name in enumerate(names, start=1):
        mask = painting.ids == id
        if not mask.any():
            continue
        shape = _outline(mask) | {"category_id": _CATEGORY_ID[name], "iscrowd": 0}
        segments.append({"id": id} | {key: shape[key] for key in ("category_id", "iscrowd", "bbox", "area")})
        if id <= len(scene.things):
            instance = {"id": len(files.instances) + 1, "image_id": number} | shape
            files.instances.append(instance)
            _refer(files, painting, scene.things[id - 1], instance, split, rng)
    files.panoptic.append({"image_id": number, "file_name": f"{number:06d}.png", "segments_info": segments})
    for text in captions(scene, rng):
        files.captions.append({"id": len(files.captions) + 1, "image_id": number, "caption": text})
    _ask(files, painting, number, np.random.default_rng((seed, SPLITS.index(split), number, 1)))
    boxes = [row["bbox"] for row in segments[: len(scene.things)]]
    objects = [_attributes(thing, box) for thing, box in zip(scene.things, boxes, strict=True)]
    files.scenes.append({"image_id": number, "stuff": {"upper": scene.upper, "lower": scene.lower}, "objects": objects})


def _refer(files: _Files, painting: Painting, thing: Thing, instance: Json, split: str, rng: np.random.Generator) -> None:
    if split == "novel" and thing.pair not in HELD_OUT:
        return
    texts = phrases(painting.scene, thing, rng)
    if not texts:
        return
    sentences = [
        {"raw": text, "sent": text, "tokens": text.split(), "sent_id": id} for id, text in enumerate(texts, files.sentences)
    ]
    files.sentences += len(texts)
    reference = {"ann_id": instance["id"], "ref_id": len(files.phrases), "split": split}
    sent_ids = [sentence["sent_id"] for sentence in sentences]
    files.phrases.append(instance | reference | {"sent_ids": sent_ids, "sentences": sentences})


def _ask(files: _Files, painting: Painting, number: int, rng: np.random.Generator) -> None:
    """Questions draw from numbers of their own, so that they change nothing else of the set."""
    for text, answer, kind in questions(painting.scene, rng):
        key = len(files.questions) + 1
        files.questions.append({"question_id": key, "image_id": number, "question": text})
        given = {"answers": [{"answer": answer}] * PEOPLE, "answer_type": kind, "multiple_choice_answer": answer}
        files.answers.append({"question_id": key, "image_id": number} | given)


def _outline(mask: np.ndarray) -> Json:
    code = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    box = [int(value) for value in rle.toBbox(code)]
    segmentation = {"size": [int(n) for n in code["size"]], "counts": code["counts"].decode("ascii")}
    return {"segmentation": segmentation, "bbox": box, "area": int(mask.sum())}


def _attributes(thing: Thing, box: list[int]) -> Json:
    return {"shape": thing.shape, "colour": thing.colour, "size": thing.size, "texture": thing.texture, "box": box}


def _write_image_file(path: Path, pixels: np.ndarray, options: list[int]) -> None:
    good, data = cv2.imencode(path.suffix, pixels, options)
    assert good
    path.write_bytes(data.tobytes())


def _dump(path: Path, content: Any) -> None:
    """Compact JSON; the folder as a whole is what appears at once."""
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
