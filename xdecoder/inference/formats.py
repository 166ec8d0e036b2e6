"""Regions in the formats of other tools: COCO, YOLO, Label Studio, GeoJSON, and supervision's and FiftyOne's objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from xdecoder.boxes import box_around

Point = tuple[int, int]
Ring = list[Point]


class Drawable(Protocol):
    """What these formats need of a result; see `xdecoder.inference.results.Drawable`."""

    image: Image.Image

    def regions(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        """What is known of each region, and its mask (H, W) bool."""
        ...

    def to_coco(self) -> list[dict[str, Any]]: ...


def rings(mask: NDArray[np.bool_]) -> list[Ring]:
    """The borders of a mask (H, W) as closed rings of pixel corners (x, y), first point not repeated.

    The inside lies to the right of each step as the picture is seen, so outer borders run clockwise and holes against the
    clock. Pixels that touch at a corner only belong to different rings. The rings' areas add up to the mask's.
    """
    padded = np.pad(mask, 1)
    following: dict[Point, list[Point]] = {}

    def step(pixels: NDArray[np.bool_], start: Point, end: Point) -> None:
        for y, x in np.argwhere(pixels).tolist():
            following.setdefault((x + start[0], y + start[1]), []).append((x + end[0], y + end[1]))

    inside = padded[1:-1, 1:-1]
    step(inside & ~padded[:-2, 1:-1], (0, 0), (1, 0))  # upper edges lead right
    step(inside & ~padded[1:-1, 2:], (1, 0), (1, 1))  # right ones down
    step(inside & ~padded[2:, 1:-1], (1, 1), (0, 1))
    step(inside & ~padded[1:-1, :-2], (0, 1), (0, 0))
    found = []
    while following:
        ring = [next(iter(following))]
        while True:
            here = ring[-1]
            before = ring[-2] if len(ring) > 1 else here
            there = _turn(before, here, following[here])
            following[here].remove(there)
            if not following[here]:
                del following[here]
            if there == ring[0]:
                break
            ring.append(there)
        found.append(_corners(ring))
    return found


def _turn(before: Point, here: Point, ways: list[Point]) -> Point:
    """Where two rings meet at a corner: the way that turns right, which stays with the pixel."""
    if len(ways) == 1 or before == here:
        return ways[0]
    step = (here[0] - before[0], here[1] - before[1])
    right = (here[0] - step[1], here[1] + step[0])
    return right if right in ways else ways[0]


def _corners(ring: Ring) -> Ring:
    """The ring without the points in the middle of straight lines."""
    around = zip(ring[-1:] + ring[:-1], ring, ring[1:] + ring[:1], strict=True)
    return [b for a, b, c in around if (b[0] - a[0], b[1] - a[1]) != (c[0] - b[0], c[1] - b[1])]


def area(ring: Sequence[Point]) -> float:
    """Pixels inside a ring: positive for an outer border, negative for a hole."""
    points = np.asarray(ring, dtype=np.float64)
    x, y = points.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def coco(results: Iterable[tuple[str, Drawable]]) -> dict[str, Any]:
    """A file of annotations about images by name: masks as RLE, categories and images numbered from 1 in order."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    numbers: dict[str, int] = {}
    for number, (name, result) in enumerate(results, 1):
        images.append({"id": number, "file_name": name, "width": result.image.width, "height": result.image.height})
        for found in result.to_coco():
            category = numbers.setdefault(found.pop("name"), len(numbers) + 1)
            found.update(id=len(annotations) + 1, image_id=number, category_id=category, iscrowd=0)
            annotations.append(found)
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def yolo(result: Drawable, names: Sequence[str]) -> str:
    """Lines of Ultralytics' segmentation labels: the class's number among `names`, then x y … of the outline in 0…1.

    A region of several pieces has a line for each; holes are not told, since the format has none.
    """
    lines = []
    for known, mask in result.regions():
        for ring in rings(mask.numpy()):
            if area(ring) > 0:
                points = " ".join(f"{x / result.image.width:.6f} {y / result.image.height:.6f}" for x, y in ring)
                lines.append(f"{names.index(known['name'])} {points}\n")
    return "".join(lines)


def geojson(result: Drawable) -> dict[str, Any]:
    """A FeatureCollection in pixels, y downwards: a polygon for each piece of a region, with its holes."""
    features = []
    for known, mask in result.regions():
        found = rings(mask.numpy())
        pieces = [[ring] for ring in found if area(ring) > 0]
        for hole in (ring for ring in found if area(ring) < 0):
            min((piece for piece in pieces if _holds(piece[0], hole[0])), key=lambda piece: area(piece[0])).append(hole)
        closed = [[[*map(list, ring), list(ring[0])] for ring in piece] for piece in pieces]
        features.append({"type": "Feature", "properties": known, "geometry": {"type": "MultiPolygon", "coordinates": closed}})
    return {"type": "FeatureCollection", "features": features}


def label_studio(name: str, result: Drawable) -> dict[str, Any]:
    """A task with a prediction: polygons in percent, for a project whose tags are called `label` and `image`."""
    width, height = result.image.size
    found = []
    for known, mask in result.regions():
        for ring in (ring for ring in rings(mask.numpy()) if area(ring) > 0):
            points = [[100 * x / width, 100 * y / height] for x, y in ring]
            value = {"points": points, "polygonlabels": [known["name"]], "closed": True}
            size = {"original_width": width, "original_height": height}
            found.append({"type": "polygonlabels", "from_name": "label", "to_name": "image", **size, "value": value})
    return {"data": {"image": name}, "predictions": [{"model_version": "xdecoder", "result": found}]}


def supervision(result: Drawable) -> Any:
    """The regions as `supervision.Detections`.

    Raises:
        ValueError: if the package supervision is not installed.
    """
    try:
        from supervision import Detections
    except ImportError:
        raise ValueError("to_supervision needs the package supervision: pip install supervision") from None
    found = list(zip(result.to_coco(), (mask.numpy() for _, mask in result.regions()), strict=True))
    if not found:
        return Detections.empty()
    boxes = np.array([known["bbox"] for known, _ in found], dtype=np.float64)
    return Detections(
        xyxy=np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), axis=1),
        mask=np.stack([mask for _, mask in found]),
        confidence=np.array([known.get("score", 1.0) for known, _ in found]),
        class_id=np.array([known["category_id"] for known, _ in found]),
        data={"class_name": np.array([known["name"] for known, _ in found])},
    )


def fiftyone(result: Drawable) -> Any:
    """The regions as `fiftyone.Detections`: boxes in 0…1, and of each mask the part inside its box.

    Raises:
        ValueError: if the package fiftyone is not installed.
    """
    try:
        from fiftyone import Detection, Detections
    except ImportError:
        raise ValueError("to_fiftyone needs the package fiftyone: pip install fiftyone") from None
    width, height = result.image.size
    found = []
    for known, mask in result.regions():
        if (around := box_around(mask)) is None:
            continue
        left, top, right, bottom = around
        box = [left / width, top / height, (right - left) / width, (bottom - top) / height]
        inside = mask[top:bottom, left:right].numpy()
        found.append(Detection(label=known["name"], bounding_box=box, mask=inside, confidence=known.get("score")))
    return Detections(detections=found)


def from_fiftyone(detections: Any, size: tuple[int, int]) -> list[tuple[str, float, NDArray[np.bool_]]]:
    """Name, score and mask (H, W) of each of `fiftyone.Detections`; one without a mask is its box, one without a score sure.

    Args:
        size: width and height of the picture.

    Raises:
        ValueError: for what is no detections.
    """
    width, height = size
    found: list[tuple[str, float, NDArray[np.bool_]]] = []
    for each in getattr(detections, "detections", None) or ():
        try:
            left, top, across, down = (float(value) for value in each.bounding_box)
        except (TypeError, ValueError, AttributeError):
            raise ValueError(f"detection {len(found)}: bounding_box must be left, top, width and height in 0…1") from None
        x0, y0 = round(left * width), round(top * height)
        x1, y1 = min(max(round((left + across) * width), x0 + 1), width), min(max(round((top + down) * height), y0 + 1), height)
        mask = np.zeros((height, width), bool)
        given = np.ones((1, 1), bool) if each.mask is None else np.asarray(each.mask) > 0
        small = Image.fromarray(given.astype(np.uint8)).resize((x1 - x0, y1 - y0), Image.Resampling.NEAREST)
        mask[y0:y1, x0:x1] = np.asarray(small) > 0
        found.append((str(each.label), 1.0 if each.confidence is None else float(each.confidence), mask))
    return found


def _holds(ring: Sequence[Point], point: Point) -> bool:
    """Whether a corner lies in a ring or on it: by the crossings of a line to the right, a hair below the corner."""
    x, y = point[0], point[1] + 0.5
    crossed = 0
    for (x1, y1), (x2, y2) in zip(ring, [*ring[1:], ring[0]], strict=True):
        if (y1 > y) != (y2 > y) and x <= max(x1, x2) and x1 == x2:
            crossed += 1
    return crossed % 2 == 1
