"""Regions that are found without any name: which are worth showing, and what a given place of the image means."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xdecoder.boxes import box_around
from xdecoder.config import Config
from xdecoder.postprocessing import Interpolation, ResizedMasks

SHARPNESS = 0.02  # differences of IoU that make a proposal count e times as much for a place's meaning


class EverythingConfig(Config):
    """Which of a network's regions are worth showing."""

    quality: float = 0.3
    """Least quality of a region, 0 to 1: how sure its pixels are and how little it depends on where they are cut off."""
    overlap: float = 0.8
    """Of regions whose IoU is larger, only the best stays."""
    pixels: int = 2
    """Least size, in cells of the network's own masks."""


@dataclass(frozen=True)
class Proposals:
    """The N regions that a network sees in an image, before anybody has named one."""

    vectors: Float[Tensor, "N D"]  # what they mean, in the joint space; not normalised
    masks: Float[Tensor, "N h w"]  # logits
    padded: tuple[int, int]  # height and width of the network's input
    size: tuple[int, int]  # of the image in it
    first: Interpolation = field(default="bicubic", kw_only=True)  # how masks are resized to the input's size

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: Tensor) -> Proposals:
        return replace(self, vectors=self.vectors[rows], masks=self.masks[rows])

    def resized(self, output: tuple[int, int]) -> ResizedMasks:
        """The masks at an output size (height, width), resized as they are read."""
        return ResizedMasks(self.masks, self.padded, self.size, output, self.first)

    @property
    def seen(self) -> Float[Tensor, "N a b"]:
        """The masks' logits (N, a, b) without the cells that lie beside the image."""
        height, width = (
            max(-(-n * m // whole), 1) for n, m, whole in zip(self.size, self.masks.shape[1:], self.padded, strict=True)
        )
        return self.masks[:, :height, :width].float()

    def quality(self) -> Float[Tensor, " N"]:
        """How good each mask is, (N,): the mean probability inside it times its stability: the share of its pixels that
        are still inside where only surer ones count, of those that are where less sure ones count too."""
        logits = self.seen.flatten(1)
        inside = logits > 0
        mean = (logits.sigmoid() * inside).sum(1) / inside.sum(1).clamp(min=1)
        return mean * (logits > 1).sum(1) / (logits > -1).sum(1).clamp(min=1)

    def best(self, config: EverythingConfig) -> tuple[Int[Tensor, " K"], Float[Tensor, " K"]]:
        """Numbers (K,) of the regions that are worth showing, the best first, and their qualities (K,)."""
        masks, quality = self.seen > 0, self.quality()
        good = ((quality >= config.quality) & (masks.flatten(1).sum(1) >= config.pixels)).nonzero()[:, 0]
        kept = good[distinct(masks[good], quality[good], config.overlap)]
        return kept, quality[kept]

    def weights(self, regions: Float[Tensor, "M H W"]) -> Float[Tensor, "M N"]:
        """How much each proposal says about each of M masks (0 … 1) of the whole image, (M, N), rows that sum to one."""
        seen = self.seen
        shown = F.interpolate(regions[None].float(), size=seen.shape[1:], mode="area")[0].to(seen.device).flatten(1)
        own = seen.sigmoid().flatten(1)
        shared = shown @ own.T
        union = shown.sum(1, keepdim=True) + own.sum(1)[None] - shared
        return (shared / union.clamp(min=1e-6) / SHARPNESS).softmax(dim=1)

    def weights_of_box(self, box: tuple[float, float, float, float]) -> Float[Tensor, "1 N"]:
        """The same, (1, N), for what fills a box: x0, y0, x1, y1 as shares of the image's width and height."""
        inside = self.seen > 0
        height, width = inside.shape[1:]
        boxes = [box_around(mask) or (0, 0, 0, 0) for mask in inside.cpu()]
        corners = (torch.tensor(boxes) / torch.tensor([width, height, width, height])).to(self.masks.device)
        given = torch.tensor(box, device=self.masks.device)
        sides = (torch.minimum(corners[:, 2:], given[2:]) - torch.maximum(corners[:, :2], given[:2])).clamp(min=0)
        shared = sides.prod(1)
        union = (corners[:, 2:] - corners[:, :2]).prod(1) + (given[2:] - given[:2]).prod() - shared
        return (shared / union.clamp(min=1e-6) / SHARPNESS).softmax(dim=0)[None]

    def weights_of_point(self, x: float, y: float) -> Float[Tensor, "1 N"]:
        """The same, (1, N), for what lies under a point, given as shares of the image's width and height."""
        seen = self.seen
        height, width = seen.shape[1:]
        here = seen[:, min(int(y * height), height - 1), min(int(x * width), width - 1)].sigmoid()
        return (here * self.quality() / SHARPNESS).softmax(dim=0)[None]

    def meaning(self, weights: Float[Tensor, "M N"]) -> Float[Tensor, "M D"]:
        """Unit vectors (M, D) of places to which proposals contribute by these weights (M, N)."""
        return F.normalize(weights @ F.normalize(self.vectors.float(), dim=-1), dim=-1)


def distinct(masks: Bool[Tensor, "N h w"], scores: Float[Tensor, " N"], overlap: float) -> Int[Tensor, " K"]:
    """Numbers (K,) of the masks (N, h, w) that are left, best first, when each takes away those that are nearly it.

    overlap: an IoU above which two masks are of one thing.
    """
    flat = masks.flatten(1)
    areas = flat.sum(1)
    kept: list[int] = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        shared = (flat[kept] & flat[i]).sum(1) if kept else areas[:0]
        if not bool((shared / (areas[kept] + areas[i] - shared).clamp(min=1) > overlap).any()):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.int64, device=masks.device)
