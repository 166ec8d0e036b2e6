"""The sets of shared/data that a small network for photographs learns from and is measured on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from datasets.catalog import find
from datasets.loader import train_loader
from datasets.readers import read
from datasets.streams import StreamConfig
from xdecoder.config import parse
from xdecoder.language import vocabularies

REGIONS = ("coco_kit_train", "coco_mini_train", "coco_more_train", "coco_mval_kit_train")
PAIRS = ("flickr8k_train", "flickr8k_train_more", "flickr8k_dev", "flickr8k_test", "coco_more_val", "coco_mval_kit_val")


@pytest.mark.parametrize("name", [*REGIONS, *PAIRS])
def test_each_has_what_its_entry_says(shared: Path, name: str) -> None:
    """Pictures, objects and captions are counted against the entry when it is read."""
    source = read(find(name), shared / "data")
    assert source.findings == ()
    if name.startswith("coco"):
        assert source.vocabulary == vocabularies.load("coco_133").vocabulary


def test_they_mix_in_one_stream(shared: Path) -> None:
    """Sets that are complete, that know no stuff, and that know single objects, share classes and batches."""
    stream = {
        "dataset": list(REGIONS),
        "weights": [1, 1, 1, 1],
        "tasks": ["segmentation"],
        "batch_size": 8,
        "exclude": ["coco_refs"],
        "transform": {"name": "lsj", "size": 64},
    }
    samples = next(train_loader(parse(StreamConfig, stream), shared / "data")).samples
    things = torch.tensor(vocabularies.load("coco_133").vocabulary.is_thing)
    seen = set()
    for sample in samples:
        name, complete = str(sample.id).split("/")[0], sample.segments.complete
        seen.add(name)
        if name == "coco_kit_train":
            assert complete is None
        else:
            assert torch.equal(complete, torch.zeros_like(things) if name == "coco_mval_kit_train" else things)
    assert seen == set(REGIONS)


def test_pairs_mix_whatever_their_classes(shared: Path) -> None:
    stream = {
        "dataset": ["flickr8k_train", "coco_mini_train"],
        "weights": [1, 1],
        "tasks": ["captioning", "retrieval"],
        "batch_size": 4,
        "captions": 5,
        "transform": {"name": "stretch", "size": 32},
    }
    batch = next(train_loader(parse(StreamConfig, stream), shared / "data"))
    assert batch.vocabulary is None and [len(sample.captions) for sample in batch.samples] == [5] * 4
