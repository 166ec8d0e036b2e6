"""SED: a cost map of every place with every class and template, fused gradually with an image encoder's features (figure 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from xdecoder.config import Config
from xdecoder.sed.clip import PIXEL_MEAN, PIXEL_STD, ClipConfig, ImageFeatures
from xdecoder.sed.decoder import Decoder, DecoderConfig, Logits
from xdecoder.sed.inference import Decoded, decode
from xdecoder.sed.vocabulary import Templates, TextEmbeddings, templates

STRIDE = 32
_VALUES = 1 << 25  # numbers of the resized maps that are held at a time


class SedConfig(Config):
    """The network; the defaults are the published SED-B."""

    name: Literal["sed"] = "sed"
    clip: ClipConfig = ClipConfig()
    decoder: DecoderConfig = DecoderConfig()
    templates: Templates = "imagenet"
    """The sentences around class names; their number is the number of the cost map's channels."""
    resolution: int = Field(768, gt=0, multiple_of=STRIDE)
    """Side of the square to which images are resized, whatever their shape."""
    image_size: int = 640
    """Shorter side to which the predictor resizes images before that, as the published evaluation does."""
    early_rejection: int | None = Field(None, gt=0)
    """Classes that are nowhere among this many best are dropped early (published: 8 for the "fast" results); null: none is."""


@dataclass(frozen=True)
class SegmentedPixels:
    """One image's classes, place by place."""

    decoded: Decoded
    classes: int

    def label_map(self, size: tuple[int, int]) -> Tensor:
        """The likeliest class of each pixel of an image of this size, (H, W) int64; of equal ones the first.

        Probabilities, not logits, are resized, a few classes at a time; what was rejected counts as 0.
        """
        logits, alive = self.decoded.logits, self.decoded.alive
        first_rejected = _first_absent(alive, self.classes)
        best = logits.new_full(size, 0.0 if first_rejected is not None else -1.0)
        labels = torch.full(size, first_rejected or 0, dtype=torch.int64, device=logits.device)
        step = max(_VALUES // (size[0] * size[1]), 1)
        for start in range(0, len(alive), step):
            value, which = self.resized(size, start, start + step).max(dim=0)
            better = value > best
            labels = torch.where(better, alive[start + which], labels)
            best = torch.where(better, value, best)
        return labels

    def resized(self, size: tuple[int, int], start: int = 0, stop: int | None = None) -> Tensor:
        """Probabilities (n, H, W) of some of the classes that were not rejected."""
        some = self.decoded.logits[start:stop].float().sigmoid()
        return F.interpolate(some[None], size=size, mode="bilinear", align_corners=False)[0]


class Sed(nn.Module):
    """Semantic segmentation with any vocabulary."""

    def __init__(self, config: SedConfig, cache: Path | None = None) -> None:
        """cache: folder in which text embeddings are kept; None: they are remembered by the object only."""
        super().__init__()
        self.config = config
        self.clip = config.clip.build()
        _, stride8_widths, stride16_widths, _ = config.clip.widths
        widths = (stride16_widths, stride8_widths, config.clip.widths[0])
        self.decoder = Decoder(config.decoder, len(templates(config.templates)), widths)
        self.texts = TextEmbeddings(self.clip, config.templates, cache)
        for parameter in self.clip.text_parameters():
            parameter.requires_grad_(False)

    @property
    def device(self) -> torch.device:
        return self.decoder.head.weight.device

    def embed(self, names: Sequence[str], progress: Callable[[int, int], None] | None = None) -> Tensor:
        """Text embeddings (T, P, C) of class names; as `TextEmbeddings`."""
        return self.texts(names, progress)

    def encode(self, images: Sequence[Tensor]) -> ImageFeatures:
        """What can be seen on RGB images (3, h, w) with values 0…255; they may differ in size."""
        pixels = torch.cat([self.prepare(image) for image in images])
        return self.clip.encode_images(pixels.to(self.decoder.head.weight.dtype))

    def prepare(self, image: Tensor) -> Tensor:
        """Normalised and squashed to the network's square: (1, 3, R, R)."""
        mean, std = (torch.tensor(values, device=self.device)[:, None, None] for values in (PIXEL_MEAN, PIXEL_STD))
        normalised = (image.to(self.device).float() - mean) / std
        size = (self.config.resolution, self.config.resolution)
        return F.interpolate(normalised[None], size=size, mode="bilinear", align_corners=False)

    def forward(self, features: ImageFeatures, text: Tensor) -> Logits:
        """Logits of T classes for training; text: (T, P, C)."""
        return self.decoder(features.dense, text, features.maps[2::-1])

    def segment(self, features: ImageFeatures, text: Tensor, keep: int | None = None) -> list[SegmentedPixels]:
        """The same for use, for each image; text: (T, P, C), keep: as of `xdecoder.sed.inference.decode`."""
        found = decode(self.decoder, features.dense, text, features.maps[2::-1], keep)
        return [SegmentedPixels(decoded, len(text)) for decoded in found]


def _first_absent(alive: Tensor, classes: int) -> int | None:
    """The lowest number below `classes` that is not alive."""
    absent = torch.ones(classes, dtype=torch.bool, device=alive.device)
    absent[alive] = False
    return int(absent.int().argmax()) if bool(absent.any()) else None
