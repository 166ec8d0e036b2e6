"""Objects that are marked on one image, to be found on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from xdecoder.encoded import Encoded
from xdecoder.inference.results import Regions
from xdecoder.inference.session import seen_at
from xdecoder.postprocessing import ResizedMasks
from xdecoder.seem.draws import SeededDraws
from xdecoder.seem.encoder import Marked, StrokeEncoder
from xdecoder.types import StrokeMaps


@dataclass(frozen=True)
class Example:
    """What some objects look like."""

    encoder: StrokeEncoder
    marked: Marked

    @classmethod
    @torch.inference_mode()
    def of(cls, encoder: StrokeEncoder, seen: Encoded, masks: Tensor) -> Example:
        """Objects by their masks on an encoded image, (N, H, W) bool at its own size, or by parts of these."""
        strokes = torch.stack([seen_at(mask, seen.sizes[0], seen.padded) for mask in masks]).to(seen.mask.device)
        marked = encoder.mark(seen, [StrokeMaps(strokes, torch.zeros_like(strokes))], None, SeededDraws())
        return cls(encoder, marked.as_example())

    @torch.inference_mode()
    def find(self, image: Image.Image, seen: Encoded, names: Sequence[str]) -> Regions:
        """The objects on another image, a region each, whose score is the cosine of what was found and what was marked."""
        logits, scores = self.encoder.find(seen, self.marked)
        output, first = (image.height, image.width), seen.decoder.table.interpolation
        masks = ResizedMasks(logits.float().cpu(), seen.padded, seen.sizes[0], output, first)
        return Regions(image, tuple(names), scores.cpu(), masks)
