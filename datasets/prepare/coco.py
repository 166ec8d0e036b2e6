"""COCO: label images from the panoptic PNGs, referring expressions as JSON, captions as arrow files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datasets.prepare.work import Json, make_images, read_values, write_image
from datasets.readers.classes import renamed
from datasets.readers.refer import refs
from xdecoder.files import atomic, read_json, write_json
from xdecoder.language import vocabularies

_ROWS_AT_ONCE = 256  # of an arrow file


def prepare_semantic(root: Path, workers: int = 1) -> list[Path]:
    """Make `coco/panoptic_semseg_*` of each split whose panoptic JSON is there: classes 0 to 132, 255 = void."""
    home = root / "coco"
    made = []
    for split in ("train2017", "val2017"):
        source = home / f"annotations/panoptic_{split}.json"
        if not source.is_file():
            continue
        try:
            segments = {
                row["file_name"]: {info["id"]: info["category_id"] for info in row["segments_info"]}
                for row in read_json(source)["annotations"]
            }
        except (KeyError, TypeError) as error:
            raise ValueError(f"{source}: expected COCO's panoptic JSON (missing: {error})") from None
        target = home / f"panoptic_semseg_{split}"
        paths = {target / name: ids for name, ids in segments.items()}
        make_images(paths, partial(_semantic, home / f"panoptic_{split}"), split, workers)
        made.append(target)
    if not made:
        raise ValueError(f"{home / 'annotations'}: has neither panoptic_train2017.json nor panoptic_val2017.json")
    return made


def _semantic(folder: Path, item: tuple[Path, dict[int, int]]) -> None:
    target, segments = item
    path = folder / target.name
    colours = read_values(path)
    if colours.ndim != 3:
        raise ValueError(f"{path}: expected a panoptic PNG, an RGB image")
    label_of = {key: label for label, key in enumerate(vocabularies.load("coco_133").ids)}
    ids = colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]
    labels = np.full(ids.shape, 255, dtype=np.uint8)
    for key, category in segments.items():
        if category not in label_of:
            raise ValueError(f"{path}: segment {key} has category {category}, which is none of COCO's panoptic ones")
        labels[ids == key] = label_of[category]
    write_image(target, Image.fromarray(labels))


def prepare_refs(root: Path, workers: int = 1) -> list[Path]:
    """Make `coco/annotations/refcoco*_{unc,umd,google}_*.json` from each `refcocoseg/*/refs(*).p` that is there.

    An annotation is an expression's object with its sentences; pictures go by their names in train2017.
    """
    home = root / "refcocoseg"
    made: list[Path] = []
    for source in sorted(home.glob("*/refs(*).p")):
        name, by = source.parent.name.replace("+", "p"), source.name[len("refs(") : -len(").p")]
        instances = read_json(source.parent / "instances.json")
        annotations = {row["id"]: row for row in instances["annotations"]}
        splits = ("train", "val", "testA", "testB") if by == "unc" else ("train", "val", "test")
        for split in splits if by != "google" else splits[:2]:
            merged = [{**annotations[ref["ann_id"]], **ref} for ref in refs(source, split)]
            seen = {row["image_id"] for row in merged}
            images = [
                {**row, "file_name": renamed(row["file_name"], (("COCO_train2014_", ""),))}
                for row in instances["images"]
                if row["id"] in seen
            ]
            target = root / "coco/annotations" / f"{name}_{by}_{split}.json"
            write_json(target, {"images": images, "annotations": merged})
            made.append(target)
    if not made:
        raise ValueError(f"{home}: holds no refs(*).p; unpack refcoco.zip, refcoco+.zip and refcocog.zip there")
    return made


def prepare_arrows(root: Path, workers: int = 1) -> list[Path]:
    """Make `pretrain_arrows_code224/coco_caption_karpathy_*.arrow`, in ViLT's layout, from Karpathy's JSON and COCO 2014."""
    try:
        import pyarrow as arrow
    except ImportError:
        raise ValueError("arrow files need pyarrow; pip install '.[data]'") from None
    source = root / "coco/annotations/dataset_coco.json"
    rows: dict[str, list[Json]] = {}
    try:
        for row in read_json(source)["images"]:
            rows.setdefault(row["split"], []).append(row)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{source}: expected Karpathy's JSON (missing: {error})") from None
    text = arrow.string()
    schema = arrow.schema([("image", arrow.binary()), ("caption", arrow.list_(text)), ("image_id", text), ("split", text)])
    made = []
    for split, images in rows.items():
        target = root / "pretrain_arrows_code224" / f"coco_caption_karpathy_{split}.arrow"
        made.append(target)
        if target.is_file():
            continue
        with atomic(target) as file, arrow.ipc.new_file(file, schema) as writer:
            for start in range(0, len(images), _ROWS_AT_ONCE):
                part = [_arrow_row(root / "coco", row) for row in images[start : start + _ROWS_AT_ONCE]]
                writer.write_batch(arrow.RecordBatch.from_pylist(part, schema))
    return made


def _arrow_row(home: Path, row: Json) -> dict[str, Any]:
    path = home / row["filepath"] / row["filename"]
    try:
        image = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such picture; unpack COCO's train2014.zip and val2014.zip in {home}") from None
    captions = [sentence["raw"] for sentence in row["sentences"]]
    return {"image": image, "caption": captions, "image_id": row["filename"], "split": row["split"]}
