"""The box around a mask, which drawing, formats, strokes and reports ask for alike."""

from __future__ import annotations

from typing import Any

import numpy as np

Box = tuple[int, int, int, int]  # left, top, right, bottom; the latter two excluded


def box_around(mask: Any) -> Box | None:
    """The smallest box around what a mask (H, W) marks, an array or a tensor on the CPU; None around nothing."""
    marked = np.asarray(mask)
    rows, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
