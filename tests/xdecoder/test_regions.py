"""Regions without names: which of them are kept, and how much each says about a place."""

from __future__ import annotations

import random

import pytest
import torch

from xdecoder.regions import EverythingConfig, Proposals, distinct


def boxes(*corners: tuple[int, int, int, int], sure: float = 6.0) -> torch.Tensor:
    """Logits (N, 16, 24) of masks that fill boxes (top, left, bottom, right)."""
    masks = torch.full((len(corners), 16, 24), -sure)
    for mask, (top, left, bottom, right) in zip(masks, corners, strict=True):
        mask[top:bottom, left:right] = sure
    return masks


def proposals(masks: torch.Tensor, size: tuple[int, int] = (64, 96)) -> Proposals:
    return Proposals(torch.eye(len(masks)), masks, (64, 96), size)


def test_near_duplicates_go_and_the_best_stay() -> None:
    """As a loop over pairs says it, on random masks with ties and empty ones among them."""
    for seed in range(60):
        rng = random.Random(seed)
        masks = torch.rand(rng.randrange(9), 4, 5, generator=torch.Generator().manual_seed(seed)) < rng.choice([0.0, 0.4, 0.9])
        scores = torch.tensor([rng.choice([0.2, 0.5, 0.5, 0.9]) for _ in masks])
        overlap, kept = rng.choice([0.3, 0.6, 0.9]), []
        for i in sorted(range(len(masks)), key=lambda i: -float(scores[i])):
            ious = [int((masks[i] & masks[j]).sum()) / max(int((masks[i] | masks[j]).sum()), 1) for j in kept]
            if all(iou <= overlap for iou in ious):
                kept.append(i)
        assert distinct(masks, scores, overlap).tolist() == kept


def test_what_is_worth_showing() -> None:
    """Neither what is unsure, nor the worse of two that are nearly one, nor what is too small."""
    masks = boxes((0, 0, 8, 8), (0, 0, 8, 9), (10, 10, 16, 24), (4, 12, 5, 13), (8, 0, 16, 8))
    masks[1] *= 0.5
    masks[4] *= 0.1
    rows, quality = proposals(masks).best(EverythingConfig())
    assert set(rows.tolist()) == {0, 2} and (quality.diff() <= 0).all() and quality.min() > 0.99
    everything, _ = proposals(masks).best(EverythingConfig(quality=0, overlap=1, pixels=0))
    assert sorted(everything.tolist()) == [0, 1, 2, 3, 4]


def test_cells_beside_the_image_do_not_count() -> None:
    inside = proposals(boxes((0, 0, 8, 12)), (32, 48))
    assert inside.seen.shape == (1, 8, 12)
    assert inside.weights(torch.ones(1, 32, 48)).tolist() == [[1.0]]


@pytest.mark.parametrize("place", ["mask", "box", "point"])
def test_the_proposal_that_lies_there_says_most(place: str) -> None:
    found = proposals(boxes((0, 0, 16, 24), (0, 0, 8, 12), (8, 12, 16, 24)))
    for number, (top, left, bottom, right) in enumerate(((0, 0, 8, 12), (8, 12, 16, 24)), start=1):
        mask = torch.zeros(1, 64, 96)
        mask[0, 4 * top : 4 * bottom, 4 * left : 4 * right] = 1
        weights = {
            "mask": lambda mask=mask: found.weights(mask),
            "box": lambda box=(left / 24, top / 16, right / 24, bottom / 16): found.weights_of_box(box),
            "point": lambda x=(left + right) / 48, y=(top + bottom) / 32: found[torch.tensor([1, 2])].weights_of_point(x, y),
        }[place]()
        assert weights.sum().item() == pytest.approx(1) and weights.argmax() == (number if place != "point" else number - 1)
        if place != "point":
            assert found.meaning(weights)[0, number] > 0.99
