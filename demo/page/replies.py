"""Answers as the page shows them: a headline, a picture with its regions, bars, and the same as JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xdecoder.inference.drawing import class_colours
from xdecoder.inference.results import Drawable, Instances, Panoptic, Regions, Semantic
from xdecoder.language.prompts import clean

KINDS: dict[type[Drawable], tuple[str, str]] = {
    Panoptic: ("segment", "segments"),
    Semantic: ("class", "classes"),
    Instances: ("thing", "things"),
    Regions: ("region", "regions"),
}
"""What a result's regions are called, one and several."""


@dataclass(frozen=True)
class Region:
    """What is shown of one region."""

    label: str  # differs from all others of the picture
    colour: str  # as #rrggbb
    mask: NDArray[np.bool_]  # (H, W)
    score: float | None = None


@dataclass(frozen=True)
class Reply:
    """What the page shows."""

    headline: str
    content: dict[str, Any]  # told as JSON
    picture: Image.Image | None = None  # the ground of the regions
    regions: tuple[Region, ...] = ()
    scores: tuple[tuple[str, float], ...] = ()  # a bar each, within 0…1

    @property
    def json(self) -> str:
        return json.dumps(self.content, indent=1)

    def headed(self, headline: str, **content: Any) -> Reply:
        """The same below another headline, with more to tell."""
        return replace(self, headline=headline, content=content | self.content)


def seen(result: Drawable) -> Reply:
    """The reply that shows a result's regions, each in a colour of its own; several of one name are numbered."""
    found = [(known, mask.numpy()) for known, mask in result.regions() if mask.any()]
    names = [clean(known["name"]) for known, _ in found]
    counts, several = Counter[str](), Counter(names)
    labels = []
    for name in names:
        counts[name] += 1
        labels.append(f"{name} {counts[name]}" if several[name] > 1 else name)
    regions = [
        Region(label, "#{:02x}{:02x}{:02x}".format(*colour), mask, known.get("score"))
        for label, colour, (known, mask) in zip(labels, class_colours(labels), found, strict=True)
    ]
    headline = _count(len(regions), KINDS[type(result)])
    if isinstance(result, Regions) and result.absent:  # of classes it goes without saying
        headline = f"{headline.rstrip('.')}; not there: {', '.join(result.absent)}"
    return Reply(headline, result.to_json(), result.image, tuple(regions))


def _count(number: int, kind: tuple[str, str]) -> str:
    if not number:
        return "Nothing was found. A lower threshold or other words may help."
    return f"{number} {kind[number > 1]} found"
