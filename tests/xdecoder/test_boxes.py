"""The box around a mask."""

from __future__ import annotations

import numpy as np
import torch

from xdecoder.boxes import box_around


def test_the_box_is_the_smallest_that_holds_all_that_is_marked() -> None:
    for seed in range(20):
        mask = np.random.default_rng(seed).random((7, 9)) < 0.08
        marked = [(x, y) for y in range(7) for x in range(9) if mask[y, x]]
        assert box_around(mask) == box_around(torch.from_numpy(mask))
        if not marked:
            assert box_around(mask) is None
            continue
        xs, ys = zip(*marked, strict=True)
        assert box_around(mask) == (min(xs), min(ys), max(xs) + 1, max(ys) + 1)
