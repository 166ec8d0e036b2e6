"""Strokes: where they lie, that a seed repeats them, and what a box says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xdecoder.seem.strokes import KINDS, box_stroke, draw_stroke, first_stroke


def disc(radius: int) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(120), torch.arange(160), indexing="ij")
    return (rows - 60) ** 2 + (columns - 70) ** 2 <= radius**2


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_repeats_a_stroke(kind: str) -> None:
    first, again = (draw_stroke(disc(40), kind, np.random.default_rng(3)).positive for _ in range(2))
    assert first.any() and torch.equal(first, again)


@pytest.mark.parametrize("kind", ["point", "scribble", "circle"])
def test_strokes_lie_on_the_object(kind: str) -> None:
    for seed in range(20):
        assert not (draw_stroke(disc(20), kind, np.random.default_rng(seed)).positive & ~disc(20)).any()


def test_points_are_one_to_twenty() -> None:
    counts = {int(draw_stroke(disc(40), "point", np.random.default_rng(seed)).positive.sum()) for seed in range(200)}
    assert counts == set(range(1, 21))


def test_polygons_are_outlines_within_the_objects_box() -> None:
    areas = []
    for seed in range(50):
        rows, columns = draw_stroke(disc(40), "polygon", np.random.default_rng(seed)).positive.nonzero(as_tuple=True)
        assert rows.min() >= 20 and rows.max() <= 100 and columns.min() >= 30 and columns.max() <= 110
        areas.append(len(rows))
    assert np.median(areas) < 0.1 * disc(40).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_draws_on_a_few_pixels(kind: str) -> None:
    speck = torch.zeros(120, 160, dtype=torch.bool)
    speck[4:7, 4:7] = True
    stroke = draw_stroke(speck, kind, np.random.default_rng(0))
    assert not stroke.positive.any() and not stroke.negative.any()


@pytest.mark.parametrize("kind", KINDS)
def test_first_strokes(kind: str) -> None:
    stroke = first_stroke(disc(30), kind, np.random.default_rng(0))
    assert stroke.positive.any() and not first_stroke(disc(-1) & False, kind, np.random.default_rng(0)).positive.any()
    if kind == "point":
        assert stroke.positive.sum() == 9 and stroke.positive[60, 70]


def test_a_box_is_its_middle_without_what_lies_around_it() -> None:
    stroke = box_stroke((10, 20, 50, 40), (120, 160))
    assert stroke.limits == (10, 20, 50, 40)
    assert stroke.positive[30, 30] and not stroke.positive[30, 11] and not stroke.positive[21, 30]
    frame = torch.zeros(120, 160, dtype=torch.bool)
    frame[19:41, 9:51] = True
    frame[20:40, 10:50] = False
    assert torch.equal(stroke.negative, frame)
    assert box_stroke((0, 0, 1, 1), (5, 5)).positive.sum() == 1  # of one pixel, at the border
