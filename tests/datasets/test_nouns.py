"""Nouns of captions, by eye; and where they go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datasets.nouns import nouns_of
from datasets.prepare.shapes import prepare


@pytest.mark.parametrize(
    ("caption", "nouns"),
    [
        ("A small brown dog sits on a wooden bench.", "dog bench"),
        ("Two men riding horses along the beach at sunset", "men horses beach sunset"),
        ("a bus parked next to an old brick building", "bus brick building"),
        ("The KITCHEN has white cabinets, a stove and the oven.", "KITCHEN cabinets stove oven"),
        ("She takes a ride on the train that is waiting.", "ride train"),
        ("A man rides a skateboard down the street's railing.", "man skateboard street railing"),
        ("A cat and a cat.", "cat cat"),
        ("there is nothing here", ""),
        ("", ""),
    ],
)
def test_nouns(caption: str, nouns: str) -> None:
    assert " ".join(nouns_of(caption)) == nouns


def _samples(root: Path) -> list:  # type: ignore[type-arg]
    from datasets.loader import train_loader
    from datasets.streams import StreamConfig
    from xdecoder.config import parse

    stream = {"dataset": "shapes_train", "tasks": ["segmentation"], "batch_size": 8, "transform": {"name": "stretch"}}
    return list(next(train_loader(parse(StreamConfig, stream), root)).samples)


def test_class_names_are_no_news(tmp_path: Path) -> None:
    """What the classes say already is left out; nouns that the annotation states are taken as they are."""
    prepare(tmp_path, train=8, val=2, novel=2)
    path = tmp_path / "shapes/annotations/captions_train.json"
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        annotation["caption"] = "a shape, two circles and the circle on a carpet"
    path.write_text(json.dumps(content))
    assert all(sample.nouns == (("shape", "carpet"),) for sample in _samples(tmp_path))
    for annotation in content["annotations"]:
        annotation["nouns"] = ["Thing", "squares"]
    path.write_text(json.dumps(content))
    assert all(sample.nouns == (("Thing",),) for sample in _samples(tmp_path))
