"""Pictures and label images in folders beside each other, mmsegmentation's and Pascal VOC's layouts among them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from datasets.findings import refuse
from datasets.readers.classes import checked_names, is_background
from datasets.readers.own.folders import (
    IMAGES,
    MASKS,
    SPLITS,
    Fields,
    first,
    folder_of,
    holds_masks,
    holds_other_masks,
    swapped,
    told,
)
from datasets.readers.own.yolo import class_list
from xdecoder.files import images_below, numbered_lines, shown
from xdecoder.images import decode
from xdecoder.language import vocabularies

UNLABELLED = 255
_WHAT = "the class of value 0 in the masks, of value 1, and so on"


def look(folder: Path, part: str) -> Fields | None:
    """images and masks, or mmsegmentation's img_dir and ann_dir, with classes.txt."""
    images, split = folder_of(folder, IMAGES, part)
    places = [place for name in MASKS if images and (place := swapped(images, name)).is_dir() and place != images]
    masks = first(place for place in places if holds_masks(place))
    if images is None or masks is None:
        other = first(place for place in places if holds_other_masks(place))
        if other:
            raise refuse(f"{other}: its masks are no PNGs; other formats change class numbers, so save masks as PNG")
        return None
    classes = class_list(folder, _WHAT)
    _check_values(masks, classes)
    return {
        "reader": "label_images",
        "images": str(images),
        "labels": str(masks),
        "classes": classes,
        "ignore_value": UNLABELLED,
        "turn": "told",
        "part": None if split else part,
        "evaluators": ("semantic",),
        "protocol": told(f"mask PNGs, value {UNLABELLED}{_background(classes)} is unlabelled", split),
    }


def look_voc(folder: Path, part: str) -> Fields | None:
    """JPEGImages and SegmentationClass, with labelmap.txt, classes.txt, or VOC's own classes."""
    images, labels, lists = (folder / name for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"))
    if not (images.is_dir() and labels.is_dir()):
        return None
    sides = {key: first(path for name in names if (path := lists / f"{name}.txt").is_file()) for key, names in SPLITS.items()}
    split = all(sides.values())
    listed = sides[part] if split else sides["train"]
    fields: Fields = {"only_labelled": listed is None, "split": str(listed.absolute()) if listed else None}
    if (folder / "labelmap.txt").is_file():
        names, colours = _labelmap(folder / "labelmap.txt")
        fields |= {"classes": names, "colours": colours}
    else:
        listed_names = (folder / "classes.txt").is_file()
        names = class_list(folder, _WHAT) if listed_names else ("background", *vocabularies.load("voc_20").vocabulary.names)
        fields |= {"classes": names, "ignore_value": UNLABELLED}
    return {
        "reader": "label_images",
        "images": str(images.absolute()),
        "labels": str(labels.absolute()),
        **fields,
        "turn": "told",
        "part": None if split else part,
        "evaluators": ("semantic",),
        "protocol": told(f"Pascal VOC, borders{_background(names)} are unlabelled", bool(split)),
    }


def _labelmap(path: Path) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    """CVAT's lines `name:red,green,blue:parts:actions`."""
    names, colours = [], []
    for number, line in numbered_lines(path):
        if line.startswith("#"):
            continue
        found = re.fullmatch(r"([^:]+):(\d{1,3}),(\d{1,3}),(\d{1,3})(:.*)?", line)
        if not found:
            raise refuse(f"{path}: line {number} should read name:red,green,blue::, as CVAT writes it")
        names.append(found[1])
        colours.append((int(found[2]), int(found[3]), int(found[4])))
    twice = next((names[i] for i, colour in enumerate(colours) if colour in colours[:i]), None)
    if twice is not None:
        raise refuse(f"{path}: class {shown(twice)} has the colour of another one, so that masks cannot tell them apart")
    return checked_names(names, str(path)), tuple(colours)


def _background(classes: tuple[str, ...]) -> str:
    return next((f" and {name!r}" for name in classes if is_background(name)), "")


def _check_values(masks: Path, classes: tuple[str, ...]) -> None:
    """255 means "unlabelled": masks painted in black and white would lose all that they are about, others hold nothing else."""
    seen: set[int] = set()
    for number, name in enumerate(images_below(masks)):
        if number >= 10 and seen - {UNLABELLED}:
            break
        try:
            seen |= set(np.unique(np.asarray(decode(masks / name))).tolist())
        except ValueError:
            return  # the reader says what is wrong with it
    if seen == {UNLABELLED}:
        raise refuse(f"{masks}: all pixels of its masks are {UNLABELLED}, unlabelled; nothing can be learnt from them")
    if seen == {0, UNLABELLED} and len(classes) <= 2:
        raise refuse(
            f"{masks}: its masks are black and white (0 and 255), but 255 means unlabelled; paint class k of classes.txt as k, "
            "counted from 0"
        )
    if len(classes) == 2 and any(map(is_background, classes)):
        raise refuse(
            f"{masks}: its only class beside 'background' would be right everywhere, since background counts as unlabelled; "
            "name what is seen there, such as 'floor' or 'other things'"
        )
