"""Names for the masks of a COCO JSON that has none, such as SAM's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.outlines import outline_mask
from xdecoder.files import read_json, shown
from xdecoder.inference.predictor import Predictor

Json = dict[str, Any]
MASKS = 256  # that are compared at a time


def label_file(
    predictor: Predictor, path: Path, folder: Path, names: Sequence[str], tell: Callable[[int], None] = lambda left: None
) -> Json:
    """The content of a COCO JSON with a class for each annotation; its entries keep all that they had.

    Args:
        path: its annotations need image_id and segmentation; classes that they have are replaced.
        folder: of the pictures.
        names: what the masks may show.
        tell: is called with the number of pictures that are left.

    Returns:
        The content with `categories`, and for each annotation `category_id` and `score`; a mask without a pixel has category 0.

    Raises:
        ValueError: naming the file or the annotation at fault.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in ("images", "annotations")):
        raise ValueError(f"{path}: expected a COCO JSON, an object with lists 'images' and 'annotations'")
    rows: dict[Any, list[Json]] = defaultdict(list)
    for row in content["annotations"]:
        if not isinstance(row, dict) or row.get("segmentation") is None or not isinstance(row.get("image_id"), (int, str)):
            raise ValueError(f"{path}: an annotation needs image_id and segmentation, not {shown(row)}")
        rows[row["image_id"]].append(row)
    content["categories"] = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    images = [image for image in content["images"] if isinstance(image, dict) and image.get("id") in rows]
    if lost := set(rows) - {image["id"] for image in images}:
        raise ValueError(f"{path}: an annotation is of picture {shown(min(lost, key=str))}, which 'images' does not list")
    for left, image in zip(reversed(range(len(images))), images, strict=True):
        _label(predictor, rows[image["id"]], folder / str(image.get("file_name")), names, path)
        tell(left)
    return content


def _label(predictor: Predictor, rows: list[Json], picture: Path, names: Sequence[str], path: Path) -> None:
    asked = predictor.encode(picture)
    size = (asked.image.height, asked.image.width)
    number = {name: i for i, name in enumerate(names, start=1)}
    masks = [
        outline_mask(row["segmentation"], *size, where=f"{path}: annotation {shown(row.get('id'))} of {picture.name}")
        for row in rows
    ]
    for row in rows:
        row |= {"category_id": 0, "score": 0.0}
    filled = [i for i, mask in enumerate(masks) if mask.any()]
    for start in range(0, len(filled), MASKS):
        some = filled[start : start + MASKS]
        said = asked.label(torch.from_numpy(np.stack([masks[i] for i in some])), names)
        assert isinstance(said, list)  # of a batch of masks
        for i, found in zip(some, said, strict=True):
            rows[i] |= {"category_id": number[found.best], "score": round(found.scores[0], 4)}
