"""Where somebody who knows the object would click next: in the middle of the larger of the two kinds of mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from xdecoder.boxes import box_around

ClickRule = Literal["euclid", "published"]
"""How far a pixel lies from the outside of a region: exactly, or by the approximation that SEEM was scored with. The published
rule has a slip too: where nothing is wrong that is not clicked yet, it clicks the upper left corner, as background."""

RADIUS = 1  # a click marks the 3 x 3 pixels around it
GOOD_ENOUGH = 0.925  # a mask of this IoU is not corrected further
_REACH = 0.35  # of the published approximation's waves


@dataclass(frozen=True)
class Click:
    """One pixel of an image that belongs to the object, or does not."""

    row: int
    column: int
    positive: bool = True


def next_click(
    truth: Tensor,
    predicted: Tensor,
    clicked: Tensor,
    rule: ClickRule = "euclid",
    generator: torch.Generator | None = None,
    anywhere: bool = False,
) -> Click | None:
    """The click that corrects a mask, or None where it is good enough or nothing is left to correct.

    Args:
        truth, predicted: (H, W) bool.
        clicked: (H, W) bool, the pixels that earlier clicks have marked, of either kind.
        rule: how distances are measured.
        generator: what `anywhere` draws from; torch's own if None.
        anywhere: click a random mistaken pixel instead of the one that lies deepest.
    """
    if not _needs_click(truth, predicted):
        return None
    missed, added = truth & ~predicted & ~clicked, ~truth & predicted & ~clicked
    positive = bool(missed.sum() > added.sum())
    region = missed if positive else added
    if not region.any():
        return Click(0, 0, positive=False) if rule == "published" else None
    if anywhere:
        places = region.nonzero()
        row, column = places[torch.randint(len(places), (), generator=generator).item()].tolist()  # type: ignore[index]
    else:
        row, column = deepest(region, rule)
    return Click(row, column, positive)


def deepest(region: Tensor, rule: ClickRule = "euclid") -> tuple[int, int]:
    """Row and column of the pixel of a region (H, W) bool that lies farthest from its outside; of equals the first."""
    distances = distance(region, rule)
    row, column = divmod(int(np.argmax(distances.numpy())), distances.shape[1])
    return row, column


def mark(strokes: Tensor, click: Click) -> None:
    """Mark a click in a map of strokes (H, W) bool, in place."""
    strokes[max(click.row - RADIUS, 0) : click.row + RADIUS + 1, max(click.column - RADIUS, 0) : click.column + RADIUS + 1] = (
        True
    )


def distance(region: Tensor, rule: ClickRule = "euclid") -> Tensor:
    """Distance in pixels from each pixel of a region (H, W) bool to its outside, which begins beyond the image's border, too.

    Returns:
        (H, W) float32 on the CPU, 0 outside.
    """
    region = region.cpu()
    distances = torch.zeros(region.shape)
    if (around := box_around(region)) is None:
        return distances
    left, top, right, bottom = around
    box = slice(top, bottom), slice(left, right)
    framed = F.pad(region[box], (1, 1, 1, 1))  # the rest of the image is as far outside as this frame
    inside = torch.from_numpy(_euclid(framed.numpy())) if rule == "euclid" else _waves(framed)
    distances[box] = inside[1:-1, 1:-1]
    return distances


def _needs_click(truth: Tensor, predicted: Tensor) -> bool:
    return bool((truth & predicted).sum() / ((truth | predicted).sum() + 1e-8) < GOOD_ENOUGH)


def _euclid(region: NDArray[np.bool_]) -> NDArray[np.float32]:
    from scipy.ndimage import distance_transform_edt  # here, since it takes half a second to import

    return np.asarray(distance_transform_edt(region), dtype=np.float32)


def _waves(region: Tensor) -> Tensor:
    """Distances as waves measure them that start outside and advance by one pixel a round (kornia's distance transform)."""
    offsets = torch.arange(-1.0, 2.0)
    kernel = torch.exp(-torch.hypot(offsets[:, None], offsets) / _REACH)[None, None]
    reached, distances = (~region).float(), torch.zeros(region.shape)
    for travelled in range(max(region.shape)):
        nearby = F.conv2d(F.pad(reached[None, None], (1, 1, 1, 1), mode="replicate"), kernel)[0, 0]
        further = -_REACH * nearby.log()
        new = (further > 0) & further.isfinite()
        if not new.any():
            break
        distances[new] = travelled + further[new]
        reached[new] = 1.0
    return distances
