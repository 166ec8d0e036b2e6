"""A predictor that finds things by their colour, for tests of what is built on one; it answers as `Predictor` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from xdecoder.editing import Edited, edit
from xdecoder.images import open_image
from xdecoder.inference.results import Answer, Instances, Regions
from xdecoder.postprocessing import ResizedMasks

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220)}
BACKGROUND = (210, 205, 190)


def painted_scene(height: int = 60, width: int = 90) -> Image.Image:
    """A red and a green square, and two blue ones, on a plain ground with a little noise."""
    pixels = np.full((height, width, 3), BACKGROUND, np.uint8)
    pixels[10:25, 8:28] = COLOURS["red"]
    pixels[35:50, 50:70] = COLOURS["green"]
    pixels[4:14, 70:84] = COLOURS["blue"]
    pixels[40:54, 8:22] = COLOURS["blue"]
    noise = np.random.default_rng(0).integers(-6, 7, pixels.shape)
    return Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))


@dataclass(frozen=True)
class PaintedPicture:
    image: Image.Image
    views: dict[str, Any] = field(default_factory=dict)

    def with_image(self, image: Image.Image) -> PaintedPicture:
        return PaintedPicture(image)

    def edit(self, instruction: Any, inpainter: Any = None, config: Any = None) -> Edited:
        return edit(self, instruction, inpainter, config)

    def caption(self, region: np.ndarray | None = None) -> str:
        seen = [name for name in COLOURS if (self._mask(name) if region is None else self._mask(name) & region).any()]
        return " and ".join(f"something {name}" for name in seen) or "nothing"

    def answer(self, question: str) -> Answer:
        """Whether there is anything of the colour that is asked about."""
        return Answer("yes" if self._mask(question).any() else "no", 0.75)

    def refer(self, phrases: Sequence[str], threshold: float | None = None) -> Regions:
        """The pixels of the colour that a phrase names; the cosine grows with their number, and 0.1 was fitted."""
        masks = np.stack([self._mask(phrase) for phrase in phrases])
        scores = torch.tensor([min(1.0, float(mask.mean()) * 10) for mask in masks])
        return Regions(self.image, tuple(phrases), scores, _logits(masks), 0.1 if threshold is None else threshold)

    def instances(self, names: Sequence[str], threshold: float = 0.0) -> Instances:
        """One thing for each name that has pixels."""
        masks = np.stack([self._mask(name) for name in names])
        there = masks.any(axis=(1, 2))
        labels = torch.arange(len(names))[torch.from_numpy(there)]
        return Instances(self.image, tuple(names), labels, torch.full((len(labels),), 0.9), _logits(masks[there]))

    def _mask(self, phrase: str) -> np.ndarray:
        colour = next((rgb for name, rgb in COLOURS.items() if name in phrase), None)
        pixels = np.asarray(self.image).astype(int)
        return np.zeros(pixels.shape[:2], bool) if colour is None else np.abs(pixels - colour).max(axis=2) < 30


class PaintedPredictor:
    def able(self, task: str) -> Any:
        return SimpleNamespace(answers=SimpleNamespace())

    def encode(self, image: Any) -> PaintedPicture:
        return image if isinstance(image, PaintedPicture) else PaintedPicture(open_image(image))


def _logits(masks: np.ndarray) -> ResizedMasks:
    size = (masks.shape[1], masks.shape[2])
    return ResizedMasks(torch.from_numpy(masks * 20.0 - 10.0).float(), size, size, size)
