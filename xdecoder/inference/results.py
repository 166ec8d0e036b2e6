"""What the predictor answers: small typed objects that can be drawn, saved and written as COCO's JSON.

Tensors lie on the CPU, masks are at the picture's size. Masks of instances and phrases stay small until they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor

from xdecoder import rle
from xdecoder.files import atomic, write_json
from xdecoder.images import ImageLike, open_image, png
from xdecoder.inference import drawing, formats
from xdecoder.postprocessing import ResizedMasks
from xdecoder.types import InstanceResult, PanopticResult, PanopticSegment, Vocabulary

SHOWN = 8  # regions that a result names when it is printed


class Drawable:
    """What all results about regions can do."""

    image: Image.Image

    def draw(
        self, overlay_only: bool = False, labels: bool = True, opacity: float | None = None, keep_colors: bool = False
    ) -> Image.Image:
        """The picture with the regions painted over (RGB), or the regions alone on a transparent ground (RGBA).

        Args:
            labels: whether names are written.
            opacity: of the regions, 0…1; None = as it suits the kind of result.
            keep_colors: do not grey the picture, which shows classes in the same colours everywhere.

        Raises:
            ValueError: for an opacity outside 0…1.
        """
        return self._drawn(overlay_only, drawing.Style(labels, opacity, keep_colors))

    def _drawn(self, overlay_only: bool, style: drawing.Style) -> Image.Image:
        raise NotImplementedError

    def __repr__(self) -> str:
        found = [known for known, _ in self.regions()]
        named = [f"{known['name']} {known['score']:.2f}" if "score" in known else known["name"] for known in found[:SHOWN]]
        more = ", …" if len(found) > SHOWN else ""
        size = f"{self.image.width} × {self.image.height}"
        return f"{type(self).__name__}({size}; {len(found)} regions: {', '.join(named)}{more})"

    def _repr_png_(self) -> bytes:
        return png(self.draw())

    @property
    def absent(self) -> tuple[str, ...]:
        """What was asked for and not found."""
        return ()

    def regions(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        """What is known of each region, and its mask (H, W) bool."""
        raise NotImplementedError

    def to_coco(self) -> list[dict[str, Any]]:
        """Regions as COCO's results: name, category_id, score, bbox (x, y, width, height), area, segmentation (RLE)."""
        return [{**known, **rle.describe(mask.numpy())} for known, mask in self.regions()]

    def to_json(self) -> dict[str, Any]:
        """What `save` writes into a .json file: the picture's size, its regions, and what is not there."""
        size = {"width": self.image.width, "height": self.image.height}
        return {**size, "regions": self.to_coco(), "absent": list(self.absent)}

    def to_geojson(self) -> dict[str, Any]:
        """A FeatureCollection of polygons in pixels, y downwards."""
        return formats.geojson(self)

    def to_supervision(self) -> Any:
        """`supervision.Detections`; raises ValueError if that package is not installed."""
        return formats.supervision(self)

    def to_fiftyone(self) -> Any:
        """`fiftyone.Detections`; raises ValueError if that package is not installed."""
        return formats.fiftyone(self)

    def save(self, path: str | Path) -> None:
        """Write the drawing, JSON or GeoJSON, as the path ends; raises ValueError for a format that Pillow does not know."""
        path = Path(path)
        if path.suffix == ".geojson":
            write_json(path, self.to_geojson())
            return
        if path.suffix == ".json":
            write_json(path, self.to_json())
            return
        kind = Image.registered_extensions().get(path.suffix.lower())
        if kind not in Image.SAVE:
            raise ValueError(f"{path}: a result is saved as .json or as a picture such as .png or .jpg, not as {path.suffix!r}")
        with atomic(path) as file:
            self.draw().save(file, format=kind)


@dataclass(frozen=True, repr=False)
class Semantic(Drawable):
    """The class of each pixel."""

    image: Image.Image
    names: tuple[str, ...]
    labels: Tensor  # (H, W) int64, index into names; -1 = none of them

    @property
    def absent(self) -> tuple[str, ...]:
        return _missing(self.names, self.labels.unique().tolist())

    def _drawn(self, overlay_only: bool, style: drawing.Style) -> Image.Image:
        return drawing.draw_semantic(self.image, self.labels, _vocabulary(self.names), overlay_only, style)

    def regions(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        """One for each class that is there."""
        for label in self.labels.unique().tolist():
            if label >= 0:
                yield {"name": self.names[label], "category_id": label}, self.labels == label


@dataclass(frozen=True, repr=False)
class Panoptic(Drawable):
    """The segment of each pixel: things one by one, each kind of stuff as one."""

    image: Image.Image
    vocabulary: Vocabulary
    ids: Tensor  # (H, W) int32; 0 = void
    segments: tuple[PanopticSegment, ...]

    @property
    def absent(self) -> tuple[str, ...]:
        return _missing(self.vocabulary.names, [segment.label for segment in self.segments])

    def _drawn(self, overlay_only: bool, style: drawing.Style) -> Image.Image:
        result = PanopticResult(self.ids, self.segments)
        return drawing.draw_panoptic(self.image, result, self.vocabulary, overlay_only, style)

    def regions(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        for s in self.segments:
            known = {"id": s.id, "name": self.vocabulary.names[s.label], "category_id": s.label, "is_thing": s.is_thing}
            yield {**known, "score": s.score}, self.ids == s.id


@dataclass(frozen=True, repr=False)
class Instances(Drawable):
    """Things one by one, the surest first; they may overlap."""

    image: Image.Image
    names: tuple[str, ...]
    labels: Tensor  # (N,) int64, index into names
    scores: Tensor  # (N,)
    small: ResizedMasks  # N masks

    @property
    def absent(self) -> tuple[str, ...]:
        return _missing(self.names, self.labels.tolist())

    @classmethod
    def from_fiftyone(cls, detections: Any, image: ImageLike) -> Instances:
        """`fiftyone.Detections` of an image as a result, the surest first; raises ValueError for other things."""
        picture = open_image(image)
        found = sorted(formats.from_fiftyone(detections, picture.size), key=lambda each: -each[1])
        names = tuple(dict.fromkeys(name for name, _, _ in found))
        size = (picture.height, picture.width)
        masks = [torch.from_numpy(mask).float() - 0.5 for _, _, mask in found]
        logits = torch.stack(masks) if masks else torch.zeros(0, *size)
        labels = torch.tensor([names.index(name) for name, _, _ in found], dtype=torch.int64)
        scores = torch.tensor([score for _, score, _ in found])
        return cls(picture, names, labels, scores, ResizedMasks(logits, size, size, size))

    @cached_property
    def masks(self) -> Tensor:
        """(N, H, W) bool."""
        return self.small.inside()

    def draw(
        self,
        overlay_only: bool = False,
        labels: bool = True,
        opacity: float | None = None,
        keep_colors: bool = False,
        threshold: float = 0.0,
    ) -> Image.Image:
        """As for all results; those of the instances whose score is below the threshold are left out."""
        sure, style = self.scores >= threshold, drawing.Style(labels, opacity, keep_colors)
        result = InstanceResult(self.small[sure].inside(), self.labels[sure], self.scores[sure])
        return drawing.draw_instances(self.image, result, _vocabulary(self.names), threshold, overlay_only, style)

    def regions(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        for i, (label, score) in enumerate(zip(self.labels.tolist(), self.scores.tolist(), strict=True)):
            known = {"name": self.names[label], "category_id": label, "score": score}
            yield known, self.small[i : i + 1].inside()[0]


@dataclass(frozen=True, repr=False)
class Regions(Drawable):
    """One region for each phrase, or none where what the phrase means is not there."""

    image: Image.Image
    phrases: tuple[str, ...]
    scores: Tensor  # (P,) cosine of the phrase and its region: what decides whether it is there
    small: ResizedMasks  # P masks, also of phrases that were not found
    threshold: float | None = None  # least score of what is there; None = every phrase means something

    @cached_property
    def masks(self) -> Tensor:
        """(P, H, W) bool; empty where nothing was found."""
        masks = self.small.inside()
        return masks if self.threshold is None else masks & (self.scores >= self.threshold)[:, None, None]

    @cached_property
    def found(self) -> Tensor:
        """(P,) bool: whether what a phrase means is there."""
        return self.masks.flatten(1).any(dim=1)

    @property
    def absent(self) -> tuple[str, ...]:
        return tuple(phrase for phrase, found in zip(self.phrases, self.found.tolist(), strict=True) if not found)

    def _drawn(self, overlay_only: bool, style: drawing.Style) -> Image.Image:
        seen = [phrase for phrase, found in zip(self.phrases, self.found.tolist(), strict=True) if found]
        return drawing.draw_masks(self.image, self.masks[self.found], seen, overlay_only=overlay_only, style=style)

    def regions(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        """Of the phrases that were found."""
        for i, (phrase, score) in enumerate(zip(self.phrases, self.scores.tolist(), strict=True)):
            if self.threshold is not None and self.scores[i] < self.threshold:
                continue
            mask = self.small[i : i + 1].inside()[0]
            if mask.any():
                yield {"name": phrase, "category_id": i, "score": score}, mask

    def to_json(self) -> dict[str, Any]:
        """As of every result, with the score that has decided about each phrase."""
        scores = zip(self.phrases, self.scores.tolist(), self.found.tolist(), strict=True)
        said = [{"phrase": phrase, "score": score, "found": found} for phrase, score, found in scores]
        return {**super().to_json(), "threshold": self.threshold, "phrases": said}


@dataclass(frozen=True, repr=False)
class Several(Drawable):
    """All that each phrase means, one by one; of a phrase the surest first."""

    image: Image.Image
    phrases: tuple[str, ...]
    owners: Tensor  # (N,) int64: whose each is, index into phrases
    scores: Tensor  # (N,) cosine of the phrase and its region
    small: ResizedMasks  # N masks
    threshold: float  # least score

    @cached_property
    def masks(self) -> Tensor:
        """(N, H, W) bool, one by one."""
        return self.small.inside()

    @property
    def united(self) -> Tensor:
        """(P, H, W) bool: all that each phrase means as one mask."""
        united = self.masks.new_zeros(len(self.phrases), self.image.height, self.image.width)
        for owner, mask in zip(self.owners.tolist(), self.masks, strict=True):
            united[owner] |= mask
        return united

    @property
    def absent(self) -> tuple[str, ...]:
        return _missing(self.phrases, self.owners.tolist())

    def _drawn(self, overlay_only: bool, style: drawing.Style) -> Image.Image:
        names = [self.phrases[owner] for owner in self.owners.tolist()]
        return drawing.draw_masks(self.image, self.masks, names, overlay_only=overlay_only, style=style)

    def regions(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        for owner, score, mask in zip(self.owners.tolist(), self.scores.tolist(), self.masks, strict=True):
            yield {"name": self.phrases[owner], "category_id": owner, "score": score}, mask


@dataclass(frozen=True, repr=False)
class Everything(Drawable):
    """All regions that were seen, the best first."""

    image: Image.Image
    scores: Tensor  # (N,) quality of each, 0 to 1
    small: ResizedMasks  # N masks
    vectors: Tensor  # (N, D) unit vectors of what they mean
    names: tuple[str, ...] = ()  # what they were to be called
    labels: Tensor | None = None  # (N,) int64, index into names; None without names

    @cached_property
    def masks(self) -> Tensor:
        """(N, H, W) bool."""
        return self.small.inside()

    @property
    def called(self) -> list[str]:
        """Each region's name; its number, from 1, where no names were given."""
        if self.labels is None:
            return [f"region {i + 1}" for i in range(len(self.scores))]
        return [self.names[label] for label in self.labels.tolist()]

    def _drawn(self, overlay_only: bool, style: drawing.Style) -> Image.Image:
        return drawing.draw_masks(self.image, self.masks, self.called, overlay_only=overlay_only, style=style)

    def regions(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        labels = [0] * len(self.scores) if self.labels is None else self.labels.tolist()
        for i, (name, label, score) in enumerate(zip(self.called, labels, self.scores.tolist(), strict=True)):
            yield {"name": name, "category_id": label, "score": score}, self.masks[i]


@dataclass(frozen=True)
class Names:
    """What a place may be, the likeliest first."""

    names: tuple[str, ...]
    scores: tuple[float, ...]  # that sum to 1

    @property
    def best(self) -> str:
        return self.names[0]

    @classmethod
    def ranked(cls, names: Sequence[str], scores: Sequence[float]) -> Self:
        """From names and their scores in any order."""
        order = sorted(range(len(names)), key=lambda i: -scores[i])
        return cls(tuple(names[i] for i in order), tuple(scores[i] for i in order))


@dataclass(frozen=True)
class Ranking:
    """Pictures by how well they fit a text."""

    order: tuple[int, ...]  # numbers of the pictures, the best first
    scores: tuple[float, ...]  # cosine of each picture and the text, in the order of the pictures


@dataclass(frozen=True)
class Found:
    """The picture that fits a text best, and the region in it that the text means."""

    index: int
    region: Regions
    ranking: Ranking

    @property
    def score(self) -> float:
        return self.ranking.scores[self.index]


@dataclass(frozen=True)
class Answer:
    """The likeliest answer to a question, and how likely it is."""

    text: str
    score: float


def _missing(names: Sequence[str], found: Sequence[int]) -> tuple[str, ...]:
    """Those of the names whose numbers are not among those found."""
    there = set(found)
    return tuple(name for label, name in enumerate(names) if label not in there)


def _vocabulary(names: Sequence[str]) -> Vocabulary:
    return Vocabulary(tuple(names), (True,) * len(names))
