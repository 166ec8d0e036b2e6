"""Objects of a training picture, marked as people would mark them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from xdecoder.seem.strokes import Kind, draw_stroke
from xdecoder.types import Objects, StrokeMaps


def draw_objects(masks: Tensor, most: int, kinds: Sequence[Kind], rng: np.random.Generator) -> Objects:
    """Some of the objects, each with a stroke on it; those that a stroke has missed, or that are too small, are left out.

    masks: (N, H, W) bool.
    """
    kept, positive, negative = [], [], []
    for number in rng.permutation(len(masks))[:most].tolist():
        stroke = draw_stroke(masks[number], kinds[int(rng.integers(len(kinds)))], rng)
        if stroke.positive.any():
            kept.append(number)
            positive.append(stroke.positive)
            negative.append(stroke.negative)
    nothing = masks[:0]
    strokes = StrokeMaps(torch.stack(positive), torch.stack(negative)) if kept else StrokeMaps(nothing, nothing)
    return Objects(masks[kept], strokes=strokes)
