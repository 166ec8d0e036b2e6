"""Interactive segmentation: find what is marked, and become better from click to click."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from xdecoder.config import Config
from xdecoder.decoder.heads import Prediction
from xdecoder.encoded import Encoded
from xdecoder.losses.context import StepContext
from xdecoder.losses.interactive import match_own, only, similarity_loss
from xdecoder.losses.masks import mask_losses
from xdecoder.losses.matching import MatchingConfig
from xdecoder.model import EncoderDecoder
from xdecoder.network import Prompt, TextReader, check_finite
from xdecoder.rng import generator, seed_of
from xdecoder.seem.clicks import ClickRule
from xdecoder.seem.draws import SeededDraws
from xdecoder.seem.encoder import Marked, StrokeEncoder
from xdecoder.seem.rounds import Target, corrected, play
from xdecoder.seem.strokes import Kind, Limits, confined, first_stroke
from xdecoder.tasks.descriptor import Descriptor
from xdecoder.tasks.segmentation import to_padded
from xdecoder.tasks.task import generators_of
from xdecoder.types import Batch, InteractiveResult, Objects, Round, Sample, StrokeMaps

_SHOWN = 3  # rounds of an image's first object that are kept for people to look at


DESCRIPTOR = Descriptor(
    name="interactive",
    needs="objects",
    result=InteractiveResult,
    evaluators=("interactive",),
    instead=("regions",),
    submission="interactive.json",
    shows="Marks on an object (green) or on what is not of it (red), and the mask that came of them, beside its true outline.",
    score="Scored by the mean IoU of the picture's objects after the first mark.",
)


class InteractiveConfig(Config):
    """Weights of the terms, rounds of training, and the rules by which clicks are counted."""

    descriptor: ClassVar[Descriptor] = DESCRIPTOR

    class_weight: float = 0.4
    mask_weight: float = 1.0
    dice_weight: float = 1.0
    layers: int = 3
    """Predictions that are supervised, counted from the last (published: 10, all)."""
    points: int = Field(12544, gt=0, le=2**22)
    """Points per mask in the losses."""
    matching: MatchingConfig = MatchingConfig()
    rounds: int = Field(3, ge=0)
    """Corrections before the prediction that is learnt from, at most; how many is drawn, from 0 on (published: 5)."""
    rule: ClickRule = "euclid"
    """By which distance the next click is chosen, in training and measuring; published numbers use "published"."""
    first: Kind = "point"
    """Measuring: what is marked at first; all later marks are clicks."""
    limit: int = Field(20, gt=0)
    """Measuring: clicks on an object, at most."""
    objects_at_once: int = Field(5, gt=0)
    """Measuring: objects of an image that are decoded at a time."""

    def build(self) -> Interactive:
        return Interactive(self)


@dataclass(frozen=True)
class InteractivePrompt(Prompt):
    marked: Marked | None = None
    targets: tuple[Tensor, ...] = ()  # per image (n, H, W) bool; of an image without objects one that is empty
    valid: tuple[Tensor, ...] = ()  # per image (n,) bool: does the object count


class Interactive:
    """Copies of object queries read what is marked of their object; the one that is most like it paints the mask."""

    name = DESCRIPTOR.name
    compares = False
    asks = True

    def __init__(self, config: InteractiveConfig) -> None:
        self.config = config

    def counts(self, model: EncoderDecoder, batch: Batch) -> dict[str, float]:
        return {"objects": sum(len(objects.masks) for objects in objects_of(batch))}

    def prompt(self, model: EncoderDecoder, features: Encoded, batch: Batch, texts: TextReader) -> InteractivePrompt:
        """The marks after some rounds, each of which corrects the masks of the one before; these are not learnt from."""
        encoder = strokes_of(model)
        objects = [_at_least_one(each, features.padded) for each in objects_of(batch)]
        targets = tuple(each.masks for each in objects)
        strokes = [each.strokes for each in objects if each.strokes is not None]
        draws = SeededDraws(batch.seed, [sample.seed for sample in batch.samples])
        previous: list[Tensor] | None = None
        with torch.no_grad():
            apart = replace(features)  # what is remembered of these rounds has no gradient
            for _ in range(self._drawn_rounds(batch)):
                previous = encoder.segment(apart, strokes, previous, draws)
                corrections = zip(strokes, targets, previous, strict=True)
                strokes = [corrected(maps, truth, logits, self.config.rule) for maps, truth, logits in corrections]
        marked = encoder.mark(features, strokes, previous, draws, learning=True)
        return InteractivePrompt(marked.groups, marked, targets, tuple(masks.flatten(1).any(1) for masks in targets))

    def loss(
        self,
        model: EncoderDecoder,
        features: Encoded,
        layers: Sequence[Prediction],
        prompt: InteractivePrompt,
        batch: Batch,
        context: StepContext,
    ) -> dict[str, Tensor]:
        assert prompt.marked is not None
        device, count = features.mask.device, context.totals["interactive/objects"]
        embeddings = torch.stack([layer["spatial"].mask for layer in layers[: self.config.layers]])  # (L, B, Q, C)
        similarity = torch.einsum("lbqc,bnc->lbqn", embeddings, prompt.marked.positive.to(embeddings.dtype))
        owner = prompt.marked.owner
        generators = generators_of(batch, "interactive matching", device)
        matches = match_own(similarity, owner, embeddings, features.mask, prompt.targets, self.config.matching, generators)
        matches = only(matches, prompt.valid)
        generators = generators_of(batch, "interactive points", device)
        bce, dice = mask_losses(matches, embeddings, features.mask, prompt.targets, self.config.points, count, generators)
        return {
            "class": self.config.class_weight * similarity_loss(similarity, matches, count),
            "mask": self.config.mask_weight * bce,
            "dice": self.config.dice_weight * dice,
        }

    def predict(self, model: EncoderDecoder, features: Encoded, batch: Batch) -> list[InteractiveResult]:
        """The rounds that somebody plays who knows the objects."""
        encoder = strokes_of(model)
        results = []
        for b, (sample, objects) in enumerate(zip(batch.samples, objects_of(batch), strict=True)):
            parts = [
                self._play(encoder, features.of(b), sample, replace(objects, masks=masks), number)
                for number, masks in enumerate(objects.masks.split(self.config.objects_at_once))
                if len(masks)
            ]
            ious = torch.cat([part.ious for part in parts]) if parts else torch.zeros(0, self.config.limit)
            seconds, passes = sum(part.seconds for part in parts), sum(part.passes for part in parts)
            results.append(InteractiveResult(ious, seconds, passes, parts[0].shown if parts else ()))
        return results

    def _play(self, encoder: StrokeEncoder, image: Encoded, sample: Sample, objects: Objects, number: int) -> InteractiveResult:
        """The rounds of some objects of one image; number: of these objects among the image's."""
        target, first, limits = self._target(image, sample, objects, number)
        size, device, draws = image.sizes[0], image.mask.device, SeededDraws()
        previous: list[Tensor] | None = None
        seconds, marks, masks = 0.0, [], []

        def segment(strokes: StrokeMaps) -> Tensor:
            nonlocal seconds, previous
            marks.append(strokes)
            start = time.perf_counter()
            previous = encoder.segment(image, [strokes.to(device)], previous, draws)
            check_finite(previous[0][None], [sample.id], "the mask of what is marked")
            logits = confined(previous[0].float(), limits, image.padded).cpu()
            seconds += time.perf_counter() - start
            return logits

        def restore(logits: Tensor) -> Tensor:
            cut = F.interpolate(logits[None], size=image.padded, mode="bilinear")[..., : size[0], : size[1]]
            found = F.interpolate(cut, size=sample.output_size, mode="bilinear")[0] > 0
            masks.append(found[0])
            return found

        ious, passes = play(segment, restore, first, target, self.config.limit, self.config.rule)
        shown = zip(marks[:_SHOWN], masks, strict=False)
        return InteractiveResult(ious, seconds, passes, tuple(_round(strokes, mask, size) for strokes, mask in shown))

    def _target(
        self, image: Encoded, sample: Sample, objects: Objects, number: int
    ) -> tuple[Target, StrokeMaps, list[Limits | None]]:
        """The objects at both sizes, what is marked of them at first, and the boxes that end them."""
        seen = F.interpolate(objects.masks[:, None].float(), size=image.sizes[0], mode="nearest-exact")[:, 0] > 0
        truth = to_padded(seen, image.padded).cpu()
        rng = np.random.default_rng(seed_of(str(sample.id), number))
        begun = [first_stroke(mask, self.config.first, rng, self.config.rule) for mask in truth]
        first = StrokeMaps(torch.stack([x.positive for x in begun]), torch.stack([x.negative for x in begun]))
        ignored = None if objects.ignored is None else objects.ignored.cpu()
        return Target(truth, objects.masks.cpu(), ignored), first, [x.limits for x in begun]

    def _drawn_rounds(self, batch: Batch) -> int:
        drawn = torch.randint(self.config.rounds + 1, (), generator=generator(batch.seed, "rounds"))
        return int(drawn)


def strokes_of(model: EncoderDecoder) -> StrokeEncoder:
    """What reads strokes; raises ValueError for a network that cannot."""
    if model.strokes is None:
        raise ValueError("this network reads no strokes; SEEM does, and an X-Decoder with `model: {strokes: {}}` can learn to")
    return model.strokes


def objects_of(batch: Batch) -> list[Objects]:
    """The objects of each image; raises ValueError for an image of which none are known."""
    found = []
    for sample in batch.samples:
        if sample.objects is None:
            raise ValueError(f"picture {sample.id} of {batch.source} has no objects, which interactive segmentation needs")
        found.append(sample.objects)
    return found


def _round(strokes: StrokeMaps, mask: Tensor, size: tuple[int, int]) -> Round:
    """A round of the first object, with what was marked at the size of its mask; size: of the image within the strokes."""
    marked = torch.stack((strokes.positive[0], strokes.negative[0]))[:, : size[0], : size[1]]
    positive, negative = F.adaptive_max_pool2d(marked[None].float(), (mask.shape[0], mask.shape[1]))[0] > 0
    return Round(positive, negative, mask)


def _at_least_one(objects: Objects, padded: tuple[int, int]) -> Objects:
    """Objects and their strokes at the size of the network's input; an image without any gets one of no pixel."""
    masks, strokes = objects.masks, objects.strokes
    assert strokes is not None, "in training objects come with strokes"
    if not len(masks):
        masks = masks.new_zeros(1, *masks.shape[1:])
        strokes = StrokeMaps(masks, masks)
    return replace(objects, masks=to_padded(masks, padded), strokes=strokes.padded(*padded))
