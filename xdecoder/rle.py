"""COCO's run-length encoding of masks: lengths of runs down the columns, of zeros and ones in turn, as text.

What comes from elsewhere is checked here, before C code sees it: do the lengths make up the mask?
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xdecoder.boxes import box_around


def describe(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Box (x, y, width, height), area and compressed RLE of a mask (H, W), under COCO's names."""
    left, top, right, bottom = box_around(mask) or (0, 0, 0, 0)
    segmentation = {"size": list(mask.shape), "counts": compress(runs(mask))}
    return {"bbox": [left, top, right - left, bottom - top], "area": int(mask.sum()), "segmentation": segmentation}


def runs(mask: NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of zeros, ones, zeros … of a mask (H, W), column after column; the first may be 0."""
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate(([0], edges, [flat.size])))
    return [0, *lengths.tolist()] if flat.size and flat[0] else lengths.tolist()


def mask(counts: str | bytes, height: int, width: int) -> NDArray[np.bool_]:
    """The mask (H, W) of COCO's text of run lengths; raises ValueError where they do not make it up."""
    lengths = checked(decompress(counts), height, width)
    ones = np.arange(len(lengths)) % 2 == 1
    return np.repeat(ones, lengths).reshape(width, height).T


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


def decompress(counts: str | bytes) -> NDArray[np.int64]:
    """The lengths (N,) that `compress` wrote; raises ValueError where the text cannot be its work."""
    try:
        letters = np.frombuffer(counts.encode("ascii") if isinstance(counts, str) else counts, dtype=np.uint8)
    except UnicodeEncodeError:
        raise ValueError("its RLE has counts with letters that run lengths do not have") from None
    if not letters.size:
        return np.zeros(0, dtype=np.int64)
    groups = letters.astype(np.int64) - 48
    if groups.min() < 0 or groups.max() > 63:
        raise ValueError("its RLE has counts with letters that run lengths do not have")
    last = groups < 32
    if not last[-1]:
        raise ValueError("its RLE has counts that are cut off")
    ends = np.flatnonzero(last)
    starts = np.concatenate(([0], ends[:-1] + 1))
    widths = ends - starts + 1
    if widths.max() > 8:
        raise ValueError("its RLE has a count of more than 40 bits")
    place = np.arange(len(groups)) - np.repeat(starts, widths)
    lengths = np.add.reduceat((groups & 31) << 5 * place, starts)
    lengths -= np.where(groups[ends] & 16, np.int64(1) << 5 * widths, 0)  # the sign
    lengths[1::2] = np.cumsum(lengths[1::2])
    lengths[2::2] = np.cumsum(lengths[2::2])
    return lengths


def checked(lengths: ArrayLike, height: int, width: int) -> NDArray[np.int64]:
    """Run lengths of an (H, W) mask; raises ValueError where they are not whole numbers from 0 whose sum is H · W."""
    try:
        counts = np.asarray(lengths)
    except ValueError:
        counts = np.empty(0)
    if counts.ndim != 1 or counts.dtype.kind not in "iu":
        raise ValueError("its RLE has counts that are no whole numbers")
    if counts.size and (counts.min() < 0 or counts.max() > height * width):
        raise ValueError(f"its RLE has a count of {int(counts.min() if counts.min() < 0 else counts.max())}")
    total = int(counts.sum())
    if total != height * width:
        raise ValueError(f"its RLE has counts that make {total} pixels, but its size is {width}x{height} = {width * height}")
    return counts.astype(np.int64)
