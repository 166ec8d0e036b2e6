"""Do what an instruction says to a picture, and look whether it was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
from PIL import Image
from pydantic import Field

from xdecoder.boxes import box_around
from xdecoder.config import Config
from xdecoder.editing import painters
from xdecoder.editing.grammar import parse_instruction
from xdecoder.editing.painters import Inpainter, Mask, Painter
from xdecoder.editing.plan import COLOURS, Place, Step, checked
from xdecoder.inference.results import Instances, Regions


class Editable(Protocol):
    """What editing asks of a picture; `xdecoder.inference.predictor.Picture` is one."""

    @property
    def image(self) -> Image.Image: ...

    def refer(self, phrases: Sequence[str], threshold: float | None = None) -> Regions: ...

    def instances(self, names: Sequence[str], threshold: float = 0.0) -> Instances: ...

    def with_image(self, image: Image.Image) -> Editable:
        """Another image, asked of the same network."""
        ...


class EditConfig(Config):
    """When a region counts as found, and how its mask is used."""

    cosine: float | None = Field(None, ge=-1, le=1)
    """Least similarity of a phrase and its region; none = the network's own, which was fitted on validation data."""

    score: float = Field(0.3, ge=0, le=1)
    """Least score of an instance, where all of a class are meant."""

    growth: float = Field(0.012, ge=0, le=0.2)
    """What is removed or painted anew reaches so far beyond the mask, as a share of the longer side: the rim must go too."""


@dataclass(frozen=True)
class Grounded:
    """Where a step's target is."""

    mask: Mask  # (H, W) bool; empty where nothing was found
    score: float  # cosine of the phrase, or the best instance's score; 0 where there is no instance
    kind: Literal["cosine", "score"]
    least: float | None  # score of what counts as found; None = whatever has a pixel


@dataclass(frozen=True)
class Edit:
    """One step, done."""

    step: Step
    before: Grounded  # the target in the picture that the step was given
    after: Grounded  # the target, or for `replace` and `add` the prompt, looked for in the result
    mask: Mask  # (H, W) bool, where pixels were allowed to change
    changed: int  # pixels that differ inside the mask
    changed_outside: int  # pixels that differ elsewhere: none

    def to_json(self) -> dict[str, Any]:
        return {
            **self.step.model_dump(exclude_defaults=True),
            self.before.kind: round(self.before.score, 4),
            f"{self.after.kind}_after": round(self.after.score, 4),
            "changed_pixels": self.changed,
            "changed_outside": self.changed_outside,
        }


@dataclass(frozen=True)
class Edited:
    """The picture after all steps, and what each of them did."""

    image: Image.Image
    edits: tuple[Edit, ...]

    def to_json(self) -> dict[str, Any]:
        return {"width": self.image.width, "height": self.image.height, "edits": [edit.to_json() for edit in self.edits]}


def edit(
    picture: Editable,
    instruction: str | Sequence[Step],
    inpainter: Inpainter | None = None,
    config: EditConfig | None = None,
) -> Edited:
    """Edit a picture as an instruction says; its steps are done in order, each on the result of the one before.

    Args:
        instruction: English such as "remove the left cup and make the table blue", or steps that were planned elsewhere.
        inpainter: paints something new for replace, restyle and add, and removes better than the fill that is used without.

    Raises:
        ValueError: if the instruction is not understood, a target is not found, or painting needs an inpainter.
    """
    config = config or EditConfig()
    steps = parse_instruction(instruction) if isinstance(instruction, str) else checked(instruction)
    for step in steps:
        if inpainter is None and step.operation in ("replace", "restyle", "add"):
            raise ValueError(f"{str(step)!r} needs an in-painting network; name a folder or a network on the Hub (--inpainter)")
    edits = []
    for step in steps:
        done, picture = _do(picture, step, inpainter, config)
        edits.append(done)
    return Edited(picture.image, tuple(edits))


def _do(picture: Editable, step: Step, inpainter: Inpainter | None, config: EditConfig) -> tuple[Edit, Editable]:
    before = ground(picture, step, config)
    _require(step, before)
    mask = _where_to_paint(step, before.mask, config)
    seam = 0.0 if step.operation == "keep_only" else painters.SEAM
    image = painters.compose(picture.image, _painter(step, inpainter)(picture.image, mask), mask, seam)
    differs = (np.asarray(image) != np.asarray(picture.image)).any(axis=2)
    result = picture.with_image(image)
    after = ground(result, _wanted(step), config)
    return Edit(step, before, after, mask, int((differs & mask).sum()), int((differs & ~mask).sum())), result


def ground(picture: Editable, step: Step, config: EditConfig) -> Grounded:
    """The region that a step's target means."""
    if step.every:
        found = picture.instances([step.target], threshold=config.score)
        scores = found.scores.tolist()
        mask = found.masks.any(dim=0).numpy() if scores else np.zeros((picture.image.height, picture.image.width), np.bool_)
        return Grounded(mask, max(scores, default=0.0), "score", config.score)
    region = picture.refer([step.target], config.cosine)
    return Grounded(region.masks[0].numpy(), region.scores[0].item(), "cosine", region.threshold)


def _require(step: Step, found: Grounded) -> None:
    if not found.mask.any():
        least = "" if found.least is None else f", at least {found.least:.2f} is needed"
        raise ValueError(
            f"{step.target!r} was not found in this picture ({found.kind} {found.score:.2f}{least}), so nothing was changed"
        )


def _wanted(step: Step) -> Step:
    """What is looked for in the result: the new thing, or the target again."""
    if step.operation in ("replace", "add") and step.prompt is not None:
        return Step(operation="remove", target=step.prompt)
    return step


def _where_to_paint(step: Step, found: Mask, config: EditConfig) -> Mask:
    if step.operation == "add":
        return beside(found, step.place)
    if step.operation == "keep_only" or step.invert:
        return ~found
    if step.operation in ("remove", "replace", "restyle"):
        return painters.grown(found, config.growth)
    return found


def beside(found: Mask, place: Place) -> Mask:
    """A box of the region's size on that side of it, or over it; cut at the picture's border, where a third of it must fit."""
    around = box_around(found)
    assert around is not None, "an edit needs a region"
    left, top, right, bottom = around
    height, width = bottom - top, right - left
    match place:
        case "left of":
            left -= width
        case "right of":
            left += width
        case "above":
            top -= height
        case "below":
            top += height
    box = np.zeros_like(found)
    box[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = True
    if box.sum() * 3 < height * width:
        raise ValueError(f"there is too little room {place} the target for something new")
    return box


def _painter(step: Step, inpainter: Inpainter | None) -> Painter:
    match step.operation:
        case "blur":
            return painters.blur
        case "grey":
            return painters.grey
        case "keep_only":
            return painters.white
        case "recolour":
            return partial(painters.recolour, colour=COLOURS[step.prompt or ""])
        case "remove":
            return painters.fill if inpainter is None else partial(inpainter, prompt="empty background")
    assert inpainter is not None and step.prompt is not None, "edit has looked"
    return partial(inpainter, prompt=f"{step.target}, {step.prompt}" if step.operation == "restyle" else step.prompt)
