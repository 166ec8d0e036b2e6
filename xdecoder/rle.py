"""COCO's run-length encoding of masks: lengths of runs down the columns, of zeros and ones in turn, as text."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def describe(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Box (x, y, width, height), area and compressed RLE of a mask (H, W), under COCO's names."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = [0, 0, 0, 0]
    if len(rows):
        box = [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
    segmentation = {"size": list(mask.shape), "counts": compress(runs(mask))}
    return {"bbox": box, "area": int(mask.sum()), "segmentation": segmentation}


def runs(mask: NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of zeros, ones, zeros … of a mask (H, W), column after column; the first may be 0."""
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate(([0], edges, [flat.size])))
    return [0, *lengths.tolist()] if flat.size and flat[0] else lengths.tolist()


def compress(lengths: list[int]) -> str:
    """Lengths as text: from the fourth on the difference to the one before the last, in groups of five bits, low ones first.

    Each group is one character from "0" on; its sixth bit says that more follow, the last group's fifth bit is the sign.
    """
    letters = []
    for i, length in enumerate(lengths):
        rest = length - lengths[i - 2] if i > 2 else length
        more = True
        while more:
            group, rest = rest & 31, rest >> 5
            more = rest != (-1 if group & 16 else 0)
            letters.append(chr(48 + group + 32 * more))
    return "".join(letters)
