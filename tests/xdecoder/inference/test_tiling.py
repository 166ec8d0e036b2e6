from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from PIL import Image

from xdecoder.inference.results import Panoptic, Semantic
from xdecoder.inference.tiling import Window, join_panoptic, join_semantic, windows
from xdecoder.types import PanopticSegment, Vocabulary

VOCABULARY = Vocabulary(("star", "cube", "sky"), (True, True, False))
STAR, CUBE, SKY = range(3)


@pytest.mark.parametrize("size", [(100, 100), (101, 64), (350, 220), (1000, 99)])
def test_windows_cover_a_picture_once(size: tuple[int, int]) -> None:
    count = torch.zeros(size[1], size[0])
    for window in windows(size, 100):
        left, top, right, bottom = window.box
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
        assert right - left == min(100, size[0]) and bottom - top == min(100, size[1])
        count[window.place] += 1
        assert count[window.place].shape == window.cut(torch.zeros(bottom - top, right - left)).shape
    assert (count == 1).all()


def test_neighbours_overlap_by_a_quarter_at_least() -> None:
    lefts = sorted({window.box[0] for window in windows((1000, 100), 100)})
    assert all(b - a <= 75 for a, b in pairwise(lefts))


def see(truth: torch.Tensor, labels: dict[int, int], window: Window) -> Panoptic:
    """What a perfect network says of a window, its segments numbered from 1 on."""
    left, top, right, bottom = window.box
    part = truth[top:bottom, left:right]
    present = [i for i in part.unique().tolist() if i]
    ids = torch.zeros_like(part, dtype=torch.int32)
    for number, i in enumerate(present, start=1):
        ids[part == i] = number
    segments = (PanopticSegment(n, labels[i], labels[i] != SKY, 0.5 + left / 1000) for n, i in enumerate(present, start=1))
    return Panoptic(Image.new("RGB", (right - left, bottom - top)), VOCABULARY, ids, tuple(segments))


def test_what_windows_see_is_joined() -> None:
    """A long thing over three windows, a second of its class beside it, sky in two corners, and one thing inside a window."""
    truth = torch.zeros(220, 350, dtype=torch.int64)
    truth[40:60, 20:330], truth[70:90, 20:330], truth[150:170, 10:40] = 1, 2, 3
    truth[:20, :60], truth[200:, 300:] = 4, 4
    labels = {1: STAR, 2: STAR, 3: CUBE, 4: SKY}
    image = Image.new("RGB", (350, 220))
    joined = join_panoptic(image, [(window, see(truth, labels, window)) for window in windows(image.size, 100)])
    assert sorted((s.label, s.is_thing) for s in joined.segments) == [(STAR, True), (STAR, True), (CUBE, True), (SKY, False)]
    assert [s.id for s in joined.segments] == [1, 2, 3, 4]
    for segment in joined.segments:
        (own,) = truth[joined.ids == segment.id].unique().tolist()
        assert torch.equal(joined.ids == segment.id, truth == own)
        assert labels[own] == segment.label
    assert joined.image is image
    assert max(s.score for s in joined.segments) == pytest.approx(0.75), "as sure as the surest part"


def test_things_of_other_classes_or_places_are_not_joined() -> None:
    image = Image.new("RGB", (160, 100))
    left, right = windows(image.size, 100)
    truth = torch.zeros(100, 160, dtype=torch.int64)
    truth[40:60, 10:150] = 1
    for other in (CUBE, STAR):
        seen = [(left, see(truth, {1: STAR}, left)), (right, see(truth, {1: other}, right))]
        assert len(join_panoptic(image, seen).segments) == (2 if other == CUBE else 1)
    apart = truth.roll(30, dims=0)
    assert len(join_panoptic(image, [(left, see(truth, {1: STAR}, left)), (right, see(apart, {1: STAR}, right))]).segments) == 2


def test_classes_are_taken_from_the_window_whose_own_they_are() -> None:
    image = Image.new("RGB", (160, 100))
    left, right = windows(image.size, 100)
    seen = [(w, Semantic(image, VOCABULARY.names, torch.full((100, 100), i))) for i, w in enumerate((left, right))]
    labels = join_semantic(image, seen).labels
    assert (labels[:, :80] == 0).all() and (labels[:, 80:] == 1).all()
