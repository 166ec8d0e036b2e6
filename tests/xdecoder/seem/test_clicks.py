"""The next click: which kind of mistake, where in it, and when there is none."""

from __future__ import annotations

import pytest
import torch

from xdecoder.seem.clicks import Click, deepest, distance, mark, next_click


def square(rows: slice, columns: slice) -> torch.Tensor:
    region = torch.zeros(20, 30, dtype=torch.bool)
    region[rows, columns] = True
    return region


NOTHING = square(slice(0, 0), slice(0, 0))


@pytest.mark.parametrize("rule", ["euclid", "published"])
def test_the_middle_of_what_was_missed(rule: str) -> None:
    truth = square(slice(5, 14), slice(10, 19))
    assert next_click(truth, NOTHING, NOTHING, rule) == Click(9, 14)


def test_the_larger_mistake_counts_and_equal_ones_are_taken_back() -> None:
    truth, predicted = square(slice(0, 5), slice(0, 5)), square(slice(10, 15), slice(10, 16))
    assert next_click(truth, predicted, NOTHING) == Click(12, 12, positive=False)
    assert next_click(truth, square(slice(10, 15), slice(10, 15)), NOTHING) == Click(12, 12, positive=False)
    assert next_click(truth, square(slice(10, 13), slice(10, 13)), NOTHING) == Click(2, 2)


def test_a_good_mask_is_left_alone() -> None:
    truth = square(slice(0, 20), slice(0, 20))
    assert next_click(truth, square(slice(0, 19), slice(0, 20)), NOTHING) is None  # IoU 0.95
    assert next_click(truth, square(slice(0, 18), slice(0, 20)), NOTHING) is not None  # IoU 0.90


def test_what_was_clicked_is_not_clicked_again() -> None:
    truth = square(slice(5, 8), slice(5, 8))
    clicked = NOTHING.clone()
    mark(clicked, Click(6, 6))
    assert torch.equal(clicked, truth)
    assert next_click(truth, NOTHING, clicked) is None
    assert next_click(truth, NOTHING, clicked, "published") == Click(0, 0, positive=False)


def test_a_mark_ends_at_the_border() -> None:
    strokes = NOTHING.clone()
    mark(strokes, Click(0, 29))
    assert strokes.nonzero().tolist() == [[0, 28], [0, 29], [1, 28], [1, 29]]


def test_anywhere_draws_from_the_region_and_is_repeatable() -> None:
    truth = square(slice(5, 14), slice(10, 19))
    clicks = [
        next_click(truth, NOTHING, NOTHING, generator=torch.Generator().manual_seed(seed), anywhere=True) for seed in (0, 0, 1)
    ]
    assert clicks[0] == clicks[1] != clicks[2]
    assert all(click and truth[click.row, click.column] for click in clicks)


def test_distances_are_exact_and_end_at_the_border() -> None:
    whole = torch.ones(5, 7, dtype=torch.bool)
    assert distance(whole)[2].tolist() == [1, 2, 3, 3, 3, 2, 1]
    assert deepest(whole) == (2, 2)
    two = square(slice(3, 4), slice(3, 4)) | square(slice(10, 13), slice(20, 23))
    assert distance(two)[3, 3] == 1 and distance(two)[11, 21] == 2
    assert (distance(two) > 0).equal(two)


def test_published_distances_of_a_line_of_three() -> None:
    """Written out: the first wave reaches all but the middle; each comes from the outside pixels among its eight neighbours."""
    line = torch.ones(1, 3, dtype=torch.bool)
    side, corner = torch.tensor(-1 / 0.35).exp(), torch.tensor(-(2**0.5) / 0.35).exp()
    middle = -0.35 * (2 * side + 4 * corner).log()
    end = -0.35 * (3 * side + 4 * corner).log()
    assert torch.allclose(distance(line, "published"), torch.stack((end, middle, end))[None], atol=1e-6)


def test_nothing_is_nowhere_deep() -> None:
    assert distance(NOTHING).sum() == 0
