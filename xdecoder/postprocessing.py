"""From predictions to results: semantic, instance and panoptic maps as pure functions (section 3.3 of the paper)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xdecoder.config import Config
from xdecoder.types import InstanceResult, PanopticResult, PanopticSegment, SegmentationResult

_CLASSES = 256  # whose sums are made at a time in the semantic map
_TILE = (64, 256)  # largest part of the masks that is resized at a time
_VALUES = 1 << 22  # and most numbers that it, and what is made of it, may hold
_GPU_VALUES = 1 << 28  # the same on a GPU: a gigabyte


class PostprocessingConfig(Config):
    """Thresholds of the post-processing; part of every score's protocol."""

    object_threshold: float = 0.8
    """Panoptic: a query counts if its best class is at least this likely (published: 0.4 for open vocabularies)."""
    overlap_threshold: float = 0.8
    """Panoptic: a segment is dropped if less than this share of its mask is left to it by others."""
    detections: int = 100
    """Instances kept per picture."""


Interpolation = Literal["bicubic", "bilinear"]


@dataclass(frozen=True)
class ResizedMasks:
    """Masks that are kept small and resized part by part as they are read, so that no picture is too large for them."""

    logits: Float[Tensor, "N h w"]
    padded: tuple[int, int]  # size to which they are resized first: the network's input
    size: tuple[int, int]  # what they are then cut to: the picture in it
    output: tuple[int, int]  # and what that is resized to
    first: Interpolation = "bicubic"  # how they are resized first; published SEEMs do it bilinearly

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, rows: Tensor | slice) -> ResizedMasks:
        return replace(self, logits=self.logits[rows])

    @property
    def shape(self) -> tuple[int, int, int]:
        return (len(self.logits), *self.output)

    def tiles(self, extra: int = 0) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
        """Places and their logits (N, rows, columns); `extra` is how many numbers a pixel the reader makes of them."""
        device, on_cpu = self.logits.device, self.logits.device.type == "cpu"
        sizes = zip(self.logits.shape[1:], self.padded, self.size, self.output, strict=True)
        rows, columns = (_resampling(*lengths, self.first, device) for lengths in sizes)
        # A CPU's cache wants small tiles. A GPU wants few: it would be waited for to know each one's band.
        tall, broad, values = (*_TILE, _VALUES) if on_cpu else (*self.output, _GPU_VALUES)
        height = max(min(tall, values // (broad * max(len(self) + extra, 1))), 1)
        small = self.logits.float()
        for x in range(0, self.output[1], broad):
            across = columns[x : x + broad]
            band = _band(across)
            wide = small[:, :, band] @ across[:, band].T
            for y in range(0, self.output[0], height):
                down = rows[y : y + height]
                band = _band(down)
                yield (slice(y, y + len(down)), slice(x, x + len(across))), down[:, band] @ wide[:, band]

    def inside(self) -> Tensor:
        """The masks themselves, (N, *output) bool."""
        masks = torch.empty(self.shape, dtype=torch.bool, device=self.logits.device)
        for place, logits in self.tiles():
            masks[(slice(None), *place)] = logits > 0
        return masks


@dataclass(frozen=True)
class Evidence:
    """How likely each of N queries of an image is of each class, and where it lies; before any threshold."""

    probabilities: Float[Tensor, "N classes"]  # that of the background last
    masks: Float[Tensor, "N h w"]  # logits
    labels: Int[Tensor, " classes-1"]  # the classes considered, as numbered in the vocabulary that was asked for
    padded: tuple[int, int]  # height and width of the network's input
    size: tuple[int, int]  # of the image in it
    first: Interpolation = field(default="bicubic", kw_only=True)  # how masks are resized to the input's size

    def resized(self, output: tuple[int, int]) -> ResizedMasks:
        """The masks at an output size (height, width), resized as they are read."""
        return ResizedMasks(self.masks, self.padded, self.size, output, self.first)

    def countable(self, is_thing: Sequence[bool]) -> Bool[Tensor, " _"]:
        """Which of the K classes considered are things, (K,) bool; is_thing: of each class of the vocabulary."""
        return torch.tensor(is_thing).to(self.labels.device, non_blocking=True)[self.labels]  # a GPU is not waited for

    def semantic(self, output: tuple[int, int], threshold: float = 0.0) -> Tensor:
        """Each pixel's likeliest class as numbered in the vocabulary, (H, W) int64; -1 where it is below the threshold."""
        found = semantic_map(self.probabilities, self.resized(output), threshold)
        return torch.where(found < 0, found, self.labels[found.clamp(min=0)])


Masks = Tensor | ResizedMasks
"""Mask logits (N, H, W) at the size of the result, whether they are there already or come part by part."""


def resize_masks(
    logits: Float[Tensor, "N h w"],
    padded: tuple[int, int],
    size: tuple[int, int],
    output: tuple[int, int],
    first: Interpolation = "bicubic",
) -> Float[Tensor, "N H W"]:
    """Mask logits (N, h, w) → padded input size → cut to the picture → output size; bicubic, antialiased: (N, *output).

    first: how they come to the padded size; bicubic with antialiasing, bilinear without.
    """
    if not logits.shape[0]:  # of nothing, such as the masks of no phrases
        return logits.new_zeros(0, *output)
    full = F.interpolate(logits[None].float(), size=padded, mode=first, antialias=first == "bicubic")
    full = full[..., : size[0], : size[1]]
    if size != output:
        full = F.interpolate(full, size=output, mode="bicubic", antialias=True)
    return full[0]


def semantic_map(probabilities: Float[Tensor, "N classes"], masks: Masks, threshold: float = 0.0) -> Int[Tensor, "H W"]:
    """Most likely class of each pixel, (H, W) int64: that of the largest sum of class times mask over the queries.

    However many classes and pixels there are, sums are made of few of both at a time. Classes come in the order of their most
    likely query; where even that cannot lift them above a pixel's best so far, no sum is made, and the result is the same.
    A pixel whose best sum is below the threshold gets -1.

    probabilities: (N, K + 1), the last class is background and is not read.
    """
    ceilings, order = probabilities[:, :-1].amax(dim=0).sort(descending=True, stable=True)
    classes = probabilities[:, order]
    labels = torch.empty(masks.shape[1:], dtype=torch.int64, device=probabilities.device)
    for place, logits in _tiles(masks, extra=min(len(order), _CLASSES)):
        winner, best = _winners(classes, ceilings, logits.sigmoid().flatten(1))
        labels[place] = order[winner].masked_fill(best < threshold, -1).view(logits.shape[1:])
    return labels


def _winners(
    classes: Float[Tensor, "N K"], ceilings: Float[Tensor, " K"], weights: Float[Tensor, "N P"]
) -> tuple[Int[Tensor, " P"], Float[Tensor, " P"]]:
    """Which of K classes (N, K), their largest entries (K,) falling, wins at each of P pixels (N, P), and its sum: (P,)."""
    best, winner = (weights.T @ classes[:, :_CLASSES]).max(dim=1)
    rounding = 1 + 64 * torch.finfo(best.dtype).eps
    most = weights.sum(dim=0) * rounding
    for start in range(_CLASSES, len(ceilings), _CLASSES):
        undecided = (most * ceilings[start] >= best).nonzero()[:, 0]
        if not len(undecided):
            break
        sums, found = (weights[:, undecided].T @ classes[:, start : start + _CLASSES]).max(dim=1)
        better = sums > best[undecided]
        best[undecided[better]], winner[undecided[better]] = sums[better], found[better] + start
    return winner, best


def instances(
    probabilities: Float[Tensor, "N classes"], masks: Masks, is_thing: Bool[Tensor, " classes-1"], detections: int = 100
) -> InstanceResult:
    """The most likely (query, class) pairs of thing classes; a score is class times mean mask probability inside the mask.

    probabilities: (N, K + 1); is_thing: (K,) bool.
    """
    rows, labels, scores = instance_scores(probabilities, masks, is_thing, detections)
    distinct, place = rows.unique(return_inverse=True)  # one query may be taken for several classes
    chosen = masks[distinct]
    inside = chosen.inside() if isinstance(chosen, ResizedMasks) else chosen > 0
    return InstanceResult(inside[place], labels, scores)


def instance_scores(
    probabilities: Float[Tensor, "N classes"], masks: Masks, is_thing: Bool[Tensor, " classes-1"], detections: int = 100
) -> tuple[Int[Tensor, " D"], Int[Tensor, " D"], Float[Tensor, " D"]]:
    """What `instances` keeps, without its masks: their rows, labels and scores, each (D,)."""
    scores, flat = probabilities[:, :-1].flatten().topk(min(detections, probabilities[:, :-1].numel()))
    labels = flat % (probabilities.shape[1] - 1)
    rows = flat // (probabilities.shape[1] - 1)
    things = is_thing[labels]
    scores, labels, rows = scores[things], labels[things], rows[things]
    distinct, place = rows.unique(return_inverse=True)
    return rows, labels, scores * _quality(masks[distinct])[place]


def _quality(masks: Masks) -> Tensor:
    """Mean probability inside each mask, (N,)."""
    total = torch.zeros(len(masks), device=masks.logits.device if isinstance(masks, ResizedMasks) else masks.device)
    area = torch.zeros_like(total)
    for _, logits in _tiles(masks):
        inside = logits > 0
        total += (logits.sigmoid() * inside).sum((1, 2))
        area += inside.sum((1, 2))
    return total / (area + 1e-6)


def panoptic(
    probabilities: Float[Tensor, "N classes"],
    masks: Masks,
    is_thing: Bool[Tensor, " classes-1"],
    config: PostprocessingConfig,
) -> PanopticResult:
    """One segment per pixel: queries compete by score times mask; stuff of one class is one segment.

    probabilities: (N, K + 1); is_thing: (K,) bool.
    """
    background, device = probabilities.shape[1] - 1, probabilities.device
    scores, labels = probabilities.max(dim=1)
    kept = (labels != background) & (scores > config.object_threshold)
    # What a GPU is waited for comes in two transfers: these, and the areas.
    things = torch.cat((is_thing, is_thing.new_zeros(1)))[labels]
    shown = torch.stack((kept.double(), scores.double(), labels.double(), things.double())).tolist()
    chosen = [(score, int(label), thing > 0) for keep, score, label, thing in zip(*shown, strict=True) if keep]
    if not chosen:
        return PanopticResult(torch.zeros(masks.shape[1:], dtype=torch.int32, device=device), ())
    rows = kept.int().argsort(descending=True, stable=True)[: len(chosen)]
    weights = scores[rows][:, None, None]
    winner = torch.empty(masks.shape[1:], dtype=torch.int16, device=device)  # -1: the winner is not sure
    areas = torch.zeros(3, len(chosen), dtype=torch.int64, device=device)  # won, drawn, own
    for place, logits in _tiles(masks[rows]):
        inside = logits.sigmoid()
        best = (weights * inside).argmax(dim=0)
        drawn = inside.gather(0, best[None])[0] >= 0.5
        winner[place] = best.masked_fill(~drawn, -1).to(torch.int16)
        areas[0].scatter_add_(0, best.flatten(), torch.ones_like(best.flatten()))
        areas[1].scatter_add_(0, best.flatten(), drawn.flatten().long())
        areas[2] += (inside >= 0.5).sum((1, 2))
    segments: list[PanopticSegment] = []
    stuff: dict[int, int] = {}
    ids = [0] * (len(chosen) + 1)  # of each row; the last is nobody's
    listed = zip(chosen, *areas.tolist(), strict=True)
    for row, ((score, label, thing), area, drawn_area, own_area) in enumerate(listed):
        if not drawn_area or area / own_area < config.overlap_threshold:
            continue
        if not thing and label in stuff:
            ids[row] = stuff[label]
            continue
        segments.append(PanopticSegment(len(segments) + 1, label, thing, score))
        ids[row] = segments[-1].id
        if not thing:
            stuff[label] = segments[-1].id
    table = torch.tensor(ids, dtype=torch.int32).to(device, non_blocking=True)
    return PanopticResult(table[winner.long()], tuple(segments))


def _tiles(masks: Masks, extra: int = 0) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
    if isinstance(masks, ResizedMasks):
        yield from masks.tiles(extra)
        return
    height = max(_VALUES // (masks.shape[2] * max(len(masks) + extra, 1)), 1)
    for y in range(0, masks.shape[1], height):
        yield (slice(y, y + height), slice(None)), masks[:, y : y + height].float()


def _resampling(length: int, padded: int, size: int, output: int, first: Interpolation, device: torch.device) -> Tensor:
    """What `resize_masks` does along one axis, as a matrix (output, length) that is zero but for a band."""
    basis = resize_masks(torch.eye(length, device=device)[:, None], (1, padded), (1, size), (1, output), first)
    return basis[:, 0].T.contiguous()


def _band(matrix: Tensor) -> slice:
    """The columns of a matrix that are not all zero, and what lies between them; on a GPU, which would be waited for, all."""
    if matrix.device.type != "cpu":
        return slice(None)
    columns = matrix.any(dim=0).nonzero()
    return slice(int(columns[0]), int(columns[-1]) + 1)


def relabelled(result: SegmentationResult, labels: Tensor) -> SegmentationResult:
    """A result whose class k is `labels[k]` of a larger vocabulary; labels: (K,) int64. -1, for none, stays."""
    names = labels.tolist()
    semantic, instances, panoptic = result.semantic, result.instances, result.panoptic
    return SegmentationResult(
        semantic=None if semantic is None else torch.where(semantic < 0, semantic, labels[semantic.clamp(min=0)]),
        instances=None if instances is None else replace(instances, labels=labels[instances.labels]),
        panoptic=None
        if panoptic is None
        else replace(panoptic, segments=tuple(replace(each, label=names[each.label]) for each in panoptic.segments)),
    )
