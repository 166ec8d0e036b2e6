"""Rounds with a stand-in for the network, whose masks are what the clicks cover."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from xdecoder.seem.rounds import Target, corrected, intersection_over_union, play
from xdecoder.types import StrokeMaps


def grown(strokes: StrokeMaps) -> torch.Tensor:
    """Logits of masks that reach four pixels around every positive mark, but not around negative ones."""
    positive, negative = (F.max_pool2d(x.float()[None], 9, 1, 4)[0] for x in (strokes.positive, strokes.negative))
    return positive - 2 * negative - 0.5


def bars() -> torch.Tensor:
    masks = torch.zeros(2, 24, 40, dtype=torch.bool)
    masks[0, 4:15, 4:15] = True  # what one click gives
    masks[1, 4:15, 4:37] = True  # three of them
    return masks


def start(masks: torch.Tensor) -> StrokeMaps:
    nothing = torch.zeros_like(masks)
    return corrected(StrokeMaps(nothing, nothing), masks, torch.full(masks.shape, -1.0))


def test_the_first_click_is_the_middle_of_the_object() -> None:
    first = start(bars())
    assert first.positive[0, 8:11, 8:11].all() and first.positive.sum() == 18 and not first.negative.any()


def test_rounds_end_when_all_are_good_and_a_good_object_is_clicked_no_more() -> None:
    seen: list[StrokeMaps] = []

    def segment(strokes: StrokeMaps) -> torch.Tensor:
        seen.append(strokes)
        return grown(strokes)

    ious, rounds = play(segment, lambda logits: logits > 0, start(bars()), Target(bars(), bars()), limit=8)
    assert ious.shape == (2, 8) and ious[0].eq(1).all()
    assert rounds == len(seen) < 8 and ious[1, rounds - 1] > 0.9 >= ious[1, rounds - 2]
    assert ious[1, rounds:].eq(ious[1, rounds - 1]).all()
    assert all(strokes.positive[0].sum() == 9 for strokes in seen)


def test_the_limit() -> None:
    nothing, target = torch.zeros_like(bars()), Target(bars(), bars())
    ious, rounds = play(lambda strokes: -torch.ones(2, 6, 10), lambda logits: nothing, start(bars()), target, limit=3)
    assert rounds == 3 and ious.eq(0).all()


def test_a_click_may_take_back() -> None:
    truth = bars()[:1]
    strokes = corrected(start(truth), truth, torch.ones(1, 24, 40))
    assert strokes.negative.any() and not (strokes.negative & truth).any()
    assert torch.equal(strokes.positive, start(truth).positive)


def test_ignored_pixels_count_for_neither() -> None:
    truth, masks = torch.zeros(1, 1, 4, dtype=torch.bool), torch.tensor([[[True, True, False, False]]])
    truth[..., 1:3] = True
    assert intersection_over_union(masks, truth).item() == 1 / 3
    assert intersection_over_union(masks, truth, torch.tensor([[True, False, False, False]])).item() == 1 / 2
    assert intersection_over_union(truth & False, truth & False).item() == 0
