"""The one place where an annotation becomes a mask: COCO's polygons and run lengths, checked before any C code sees a number.

What exporters write is understood alike everywhere: polygons as flat lists or as lists of corners, run lengths compressed or
not, also in a list. Polygons of fewer than three corners are dropped; corners outside the picture are clipped by the picture's
edge as long as they are not farther away than it is large.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from xdecoder import rle

Polygon = list[float]  # x and y of each corner in turn
RunLengths = dict[str, Any]  # size (height, width) and counts: lengths, or COCO's text of them
Outline = list[Polygon] | list[RunLengths] | list[Polygon | RunLengths]

MOST_CORNERS = 1_000_000  # of one object
KINDS = "neither a list of polygons nor an RLE"


def parse(outline: Any) -> Outline:
    """Polygons of three corners or more, all numbers finite, or run lengths whose size is known; [] = no outline at all.

    Raises:
        ValueError: in one clause, beginning with "its".
    """
    if isinstance(outline, Mapping):
        return [_run_lengths(outline)]
    if not isinstance(outline, list):
        raise ValueError(f"its segmentation is {KINDS} but {_kind(outline)}")
    if any(isinstance(each, Mapping) for each in outline):
        return [part for each in outline for part in (parse(each) if isinstance(each, Mapping) else parse([each]))]
    polygons = _polygons(outline)
    for polygon in polygons:
        _check_polygon(polygon)
    return [polygon for polygon in polygons if len(polygon) >= 6]


def lies_outside(outline: Outline, height: int, width: int) -> bool:
    """Whether polygons can cover no pixel of their picture, since all lie beside it or have no area.

    Raises:
        ValueError: for a corner that is farther away from the picture than it is large.
    """
    side = max(height, width)
    for part in outline:
        if isinstance(part, dict):
            return False
        xs, ys = part[::2], part[1::2]
        left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
        if min(left, top) < -side or max(right, bottom) > 2 * side:
            far = min(left, top) if min(left, top) < -side else max(right, bottom)
            raise ValueError(
                f"its segmentation has a corner at {far:g}, far outside of its picture, whose longer side is {side}"
            )
        if right > max(left, 0) and left < width and bottom > max(top, 0) and top < height:
            return False
    return True


def _polygons(outline: list[Any]) -> list[Any]:
    """Flat lists of numbers, whichever way corners are nested."""
    if not outline:
        return []
    first = outline[0]
    if isinstance(first, (int, float)):
        return [outline]  # one polygon without the list around it
    if not isinstance(first, list):
        raise ValueError(f"its segmentation is {KINDS} but a list of {_kind(first)}")
    if len(first) == 2 and all(isinstance(each, list) and len(each) == 2 for each in outline):
        return [list(chain.from_iterable(outline))]  # one polygon, a pair for each corner
    if first and isinstance(first[0], list):
        return [_flat(polygon) for polygon in outline]
    return outline


def _flat(polygon: Any) -> list[Any]:
    if not isinstance(polygon, list) or not all(isinstance(corner, list) and len(corner) == 2 for corner in polygon):
        raise ValueError("its segmentation has polygons whose corners are no pairs of numbers")
    return list(chain.from_iterable(polygon))


def _check_polygon(polygon: Any) -> None:
    try:
        finite = math.isfinite(sum(polygon))
    except (TypeError, OverflowError):
        raise ValueError("its segmentation has a corner that is no number") from None
    if not finite:
        raise ValueError("its segmentation has a corner that is not a finite number")
    if len(polygon) % 2:
        raise ValueError(
            f"its segmentation has a polygon of {len(polygon)} numbers; x and y of each corner make an even number"
        )
    if len(polygon) > 2 * MOST_CORNERS:
        raise ValueError(f"its segmentation has a polygon of {len(polygon) // 2} corners; at most {MOST_CORNERS}")


def _run_lengths(outline: Mapping[str, Any]) -> RunLengths:
    size, counts = outline.get("size"), outline.get("counts")
    if isinstance(size, (list, tuple)) and any(isinstance(side, str) for side in size):
        size = [int(side) if isinstance(side, str) and side.isdecimal() and len(side) < 10 else side for side in size]
    if not isinstance(size, (list, tuple)) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise ValueError("its RLE needs a size, height and width in pixels")
    if not isinstance(counts, (list, str, bytes)):
        raise ValueError("its RLE needs counts, a list of run lengths or COCO's text of them")
    if isinstance(counts, list):
        try:
            total = sum(counts)
        except TypeError:
            raise ValueError("its RLE has counts that are no numbers") from None
        if total != size[0] * size[1]:
            pixels = f"{size[1]}x{size[0]} = {size[0] * size[1]}"
            raise ValueError(f"its RLE has counts that make {total} pixels, but its size is {pixels}")
        if min(counts, default=0) < 0:
            raise ValueError(f"its RLE has a count of {min(counts)}")
    return {"size": (size[0], size[1]), "counts": counts}


def outline_mask(outline: Any, height: int, width: int, where: str) -> NDArray[np.bool_]:
    """(H, W) bool mask of COCO polygons (their union) or run lengths, empty where there is no outline.

    Raises:
        ValueError: naming `where`.
    """
    code = outline_code(outline, height, width, where)
    if code is None:
        return np.zeros((height, width), dtype=bool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools has not caught up with NumPy 2
        return np.asarray(coco.decode(code).astype(bool))


def outline_code(outline: Any, height: int, width: int, where: str) -> RunLengths | None:
    """As `outline_mask`, in the form that pycocotools compares; None where there is no outline."""
    try:
        parts = parse(outline)
        polygons = [part for part in parts if isinstance(part, list)]
        codes = _drawn(polygons, height, width) if polygons else []
        codes += [_coded(part, height, width) for part in parts if isinstance(part, dict)]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return (codes[0] if len(codes) == 1 else coco.merge(codes)) if codes else None


def _drawn(polygons: list[Polygon], height: int, width: int) -> list[RunLengths]:
    lies_outside(polygons, height, width)
    codes: list[RunLengths] = coco.frPyObjects([[float(number) for number in polygon] for polygon in polygons], height, width)
    return codes


def _coded(part: RunLengths, height: int, width: int) -> RunLengths:
    if part["size"] != (height, width):
        raise ValueError(f"its RLE's size {part['size']} is not the picture's {(height, width)}")
    counts = part["counts"]
    lengths = rle.checked(counts if isinstance(counts, list) else rle.decompress(counts), height, width)
    text = rle.compress(lengths.tolist()) if isinstance(counts, list) else counts
    return {"size": [height, width], "counts": text.encode() if isinstance(text, str) else text}


def _kind(value: Any) -> str:
    return {str: "a text", type(None): "nothing (null)", bool: "true or false"}.get(type(value), type(value).__name__)
