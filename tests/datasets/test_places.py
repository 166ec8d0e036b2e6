"""Phrases that say where a thing lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.loader import train_loader
from datasets.places import WORDINGS, by_place, places
from datasets.streams import StreamConfig
from xdecoder.config import parse


def boxes(*corners: tuple[int, int, int, int]) -> torch.Tensor:
    """Masks (N, 100, 100) of rectangles: top, left, bottom, right."""
    masks = torch.zeros(len(corners), 100, 100, dtype=torch.bool)
    for mask, (top, left, bottom, right) in zip(masks, corners, strict=True):
        mask[top:bottom, left:right] = True
    return masks


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        (boxes((40, 0, 60, 20), (40, 70, 60, 90)), {("left", 0), ("right", 1)}),
        (boxes((0, 40, 20, 60), (70, 40, 90, 60)), {("top", 0), ("bottom", 1)}),
        (boxes((40, 70, 60, 90), (40, 0, 60, 20), (40, 40, 60, 60)), {("left", 1), ("right", 0), ("middle", 2)}),
        (boxes((40, 40, 60, 60), (42, 42, 62, 62)), set()),  # nothing sets them apart
        (boxes((30, 30, 70, 70), (45, 45, 55, 55)), {("biggest", 0)}),
        (boxes((30, 30, 70, 70)), set()),
    ],
)
def test_what_sets_things_apart(masks: torch.Tensor, expected: set[tuple[str, int]]) -> None:
    assert set(places(masks)) == expected


def test_every_wording_names_the_thing() -> None:
    masks, rng = boxes((40, 0, 60, 20), (40, 70, 60, 90)), np.random.default_rng(0)
    said = {by_place("dog", masks, rng) for _ in range(200)}
    expected = {(wording.format("dog"), number) for number, word in enumerate(("left", "right")) for wording in WORDINGS[word]}
    assert said == expected


def test_phrases_of_photographs(shared: Path) -> None:
    """The region that is called left is the one that lies left, mirrored or not."""
    stream = {
        "dataset": "coco_more_train",
        "tasks": ["referring"],
        "batch_size": 8,
        "places": True,
        "max_phrases": 6,
        "transform": {"name": "lsj", "size": 96, "min_scale": 0.9, "max_scale": 1.1},
    }
    batches = train_loader(parse(StreamConfig, stream), shared / "data")
    placed = 0
    for _ in range(3):
        for sample in next(batches).samples:
            phrases = sample.phrases
            assert phrases is not None and phrases.meanings == phrases.texts and len(phrases.masks) == len(phrases.texts)
            assert phrases.masks.flatten(1).any(dim=1).all()
            placed += sum(any(word in text for word in ("left", "right")) for text in phrases.texts)
    assert placed > 0
