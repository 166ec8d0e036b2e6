"""Segmentation in the Wild: 25 small sets of all kinds, whose AP is averaged."""

from __future__ import annotations

from datasets.readers.coco import CocoSpec
from datasets.spec import DatasetSpec, Protocol
from xdecoder.resizing import ShortestSide

NAMES: tuple[str, ...] = (
    "Elephants",
    "Hand-Metal",
    "Watermelon",
    "House-Parts",
    "HouseHold-Items",
    "Strawberry",
    "Fruits",
    "Nutterfly-Squireel",
    "Hand",
    "Garbage",
    "Chicken",
    "Rail",
    "Airplane-Parts",
    "Brain-Tumor",
    "Poles",
    "Electric-Shaver",
    "Bottles",
    "Toolkits",
    "Trash",
    "Salmon-Fillet",
    "Puppies",
    "Tablets",
    "Phones",
    "Cows",
    "Ginger-Garlic",
)
"""In the order of the published average."""


def _set(name: str, split: str, folder: str) -> DatasetSpec:
    home = f"seginw/{name}/{folder}"
    return CocoSpec(
        name=f"seginw_{name}_{split}",
        images=home,
        instances=f"{home}/_annotations_min1cat.coco.json",
        vocabulary=f"seginw:{name}",
        evaluators=("instance",),
        measured_with=Protocol(transform=ShortestSide(size=512)),
        protocol="its own classes, category ids from 0; the benchmark's score is the mean AP of the 25 validation sets",
    )


_FOLDERS = {"val": "valid", "train": "train", "train_10shot": "train_10shot"}

SPECS: tuple[DatasetSpec, ...] = tuple(_set(name, split, folder) for name in NAMES for split, folder in _FOLDERS.items())
