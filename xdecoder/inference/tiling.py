"""Very large pictures: cut into overlapping windows that are asked one by one, and joined again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from PIL import Image
from torch import Tensor

from xdecoder.inference.results import Panoptic, Semantic
from xdecoder.types import PanopticSegment

OVERLAP = 0.25  # share of a window that its neighbour sees as well
SAME = 0.5  # things of one class are one if they share so much of what two windows see of them


@dataclass(frozen=True)
class Window:
    """A part of a picture in pixels, and the part of it that is its own: neighbours meet in the middle of their overlap."""

    box: tuple[int, int, int, int]  # left, top, right, bottom
    own: tuple[int, int, int, int]

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of the whole picture that are its own."""
        left, top, right, bottom = self.own
        return slice(top, bottom), slice(left, right)

    def cut(self, values: Tensor) -> Tensor:
        """What is its own of a map of shape (h, w) of the whole window."""
        left, top, right, bottom = self.own
        x, y = self.box[:2]
        return values[top - y : bottom - y, left - x : right - x]


def windows(size: tuple[int, int], tile: int) -> list[Window]:
    """Windows of tile × tile pixels (less at the end of a smaller picture) that cover a picture of (width, height)."""
    if tile < 64:
        raise ValueError(f"tile must be at least 64 pixels, not {tile}")
    across, down = (_spans(length, tile) for length in size)
    return [Window((x[0], y[0], x[1], y[1]), (x[2], y[2], x[3], y[3])) for y in down for x in across]


def _spans(length: int, tile: int) -> list[tuple[int, int, int, int]]:
    """Start and end of each window along one side, and of what is its own."""
    if length <= tile:
        return [(0, length, 0, length)]
    count = -(-(length - tile) // round(tile * (1 - OVERLAP))) + 1
    starts = [round(i * (length - tile) / (count - 1)) for i in range(count)]
    cuts = [0, *((a + tile + b) // 2 for a, b in pairwise(starts)), length]
    return [(start, start + tile, cuts[i], cuts[i + 1]) for i, start in enumerate(starts)]


def join_semantic(image: Image.Image, seen: list[tuple[Window, Semantic]]) -> Semantic:
    """Each pixel's class is what the window says whose own it is."""
    labels = torch.empty(image.height, image.width, dtype=torch.int64)
    for window, part in seen:
        labels[window.place] = window.cut(part.labels)
    return replace(seen[0][1], image=image, labels=labels)


def join_panoptic(image: Image.Image, seen: list[tuple[Window, Panoptic]]) -> Panoptic:
    """Stuff is joined by class; things are one where two windows see mostly the same of them."""
    every = [segment for _, part in seen for segment in part.segments]
    firsts = [0]
    for _, part in seen:
        firsts.append(firsts[-1] + len(part.segments))
    same = list(range(len(every)))  # a forest: each segment points to an earlier one that it is a part of
    stuff: dict[int, int] = {}
    for number, segment in enumerate(every):
        if not segment.is_thing:
            same[number] = stuff.setdefault(segment.label, number)
    for i, (window, part) in enumerate(seen):
        for j in range(i):
            for a, b in _seen_twice(window, part, *seen[j]):
                _unite(same, firsts[i] + a, firsts[j] + b)
    ids = torch.zeros(image.height, image.width, dtype=torch.int32)
    for (window, part), first in zip(seen, firsts, strict=False):
        table = torch.tensor([0, *(_root(same, first + k) + 1 for k in range(len(part.segments)))], dtype=torch.int32)
        ids[window.place] = table[window.cut(part.ids).long()]
    return _renumber(replace(seen[0][1], image=image, ids=ids), every, same)


def _seen_twice(a: Window, first: Panoptic, b: Window, second: Panoptic) -> list[tuple[int, int]]:
    """Places in both lists of the things that are the same in what both windows see."""
    left, top, right, bottom = (pick(x, y) for pick, x, y in zip((max, max, min, min), a.box, b.box, strict=True))
    if left >= right or top >= bottom:
        return []
    one, two = (
        part.ids[top - window.box[1] : bottom - window.box[1], left - window.box[0] : right - window.box[0]].long()
        for window, part in ((a, first), (b, second))
    )
    rows, columns = len(first.segments) + 1, len(second.segments) + 1
    shared = (one * columns + two).flatten().bincount(minlength=rows * columns).view(rows, columns)
    areas = shared.sum(dim=1)[:, None] + shared.sum(dim=0) - shared
    pairs = (shared > SAME * areas).nonzero().tolist()
    return [
        (i - 1, j - 1)
        for i, j in pairs
        if i and j and first.segments[i - 1].is_thing and first.segments[i - 1].label == second.segments[j - 1].label
    ]


def _root(same: list[int], number: int) -> int:
    while same[number] != number:
        number = same[number]
    return number


def _unite(same: list[int], a: int, b: int) -> None:
    a, b = sorted((_root(same, a), _root(same, b)))
    same[b] = a


def _renumber(joined: Panoptic, every: list[PanopticSegment], same: list[int]) -> Panoptic:
    """Segments that are left get the numbers from 1 on; one of several parts is as sure as the surest of them."""
    present = [i for i in joined.ids.unique().tolist() if i]
    table = torch.zeros(len(every) + 1, dtype=torch.int32)
    table[present] = torch.arange(1, len(present) + 1, dtype=torch.int32)
    segments = tuple(
        replace(every[root - 1], id=number, score=max(s.score for k, s in enumerate(every) if _root(same, k) == root - 1))
        for number, root in enumerate(present, start=1)
    )
    return replace(joined, ids=table[joined.ids.long()], segments=segments)
