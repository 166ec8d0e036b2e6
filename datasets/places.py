"""Calling one of several things of a class by where it lies, as people do: "left dog", "the cup in the middle", "biggest boat".

So that sets without written phrases teach more than names: people who refer to one of several things mostly say where it is
(Kazemzadeh et al. 2014, on RefCOCO's beginnings).
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

GAP = 0.12  # least distance, as a share of the view's side, by which a thing must lie beyond the others
LARGER = 1.7  # how many times as large as the next one the biggest thing must be

WORDINGS: dict[str, tuple[str, ...]] = {
    "left": ("left {}", "{} on the left", "{} on left", "leftmost {}", "{} left"),
    "right": ("right {}", "{} on the right", "{} on right", "rightmost {}", "{} right"),
    "top": ("top {}", "{} at the top", "upper {}", "{} in the back"),
    "bottom": ("bottom {}", "{} at the bottom", "lower {}", "{} in front"),
    "middle": ("middle {}", "{} in the middle", "center {}", "{} in the center"),
    "biggest": ("biggest {}", "big {}", "large {}", "closest {}"),
}


def places(masks: Tensor) -> list[tuple[str, int]]:
    """What sets single ones of several things apart: a word of `WORDINGS` and the thing's number.

    masks: (N, H, W) bool, none of them empty.
    """
    count, height, width = masks.shape
    if count < 2:
        return []
    areas = masks.flatten(1).sum(dim=1).numpy().astype(float)
    across = (masks.sum(dim=1).numpy() @ np.arange(width)) / areas / width
    down = (masks.sum(dim=2).numpy() @ np.arange(height)) / areas / height
    found = []
    for centres, first, last in ((across, "left", "right"), (down, "top", "bottom")):
        order = np.argsort(centres, kind="stable")
        gaps = np.diff(centres[order])
        found += [(first, int(order[0]))] if gaps[0] >= GAP else []
        found += [(last, int(order[-1]))] if gaps[-1] >= GAP else []
        if first == "left" and count == 3 and gaps.min() >= GAP:
            found.append(("middle", int(order[1])))
    order = np.argsort(areas, kind="stable")
    if areas[order[-1]] >= LARGER * areas[order[-2]]:
        found.append(("biggest", int(order[-1])))
    return found


def by_place(name: str, masks: Tensor, rng: np.random.Generator) -> tuple[str, int] | None:
    """A phrase that means one of several things of a class, and which; None if nothing sets one apart."""
    known = places(masks)
    if not known:
        return None
    word, number = known[int(rng.integers(len(known)))]
    wordings = WORDINGS[word]
    return wordings[int(rng.integers(len(wordings)))].format(name), number
