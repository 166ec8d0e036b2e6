"""Sentences around class names: the templates that the published networks were trained and are evaluated with."""

from __future__ import annotations

import torch

_SUFFIXES = ("-other", "-merged", "-stuff")


_KINDS_OF_THING = ("hard to see", "clean", "dirty", "cool", "large", "nice", "weird", "small")
_KINDS_OF_PHOTO = (
    "bad",
    "good",
    "low resolution",
    "cropped",
    "bright",
    "dark",
    "blurry",
    "close-up",
    "black and white",
    "pixelated",
    "jpeg corrupted",
)
_KINDS_OF_WORK = ("sculpture", "rendering", "rendition", "tattoo", "drawing", "painting", "doodle", "sketch")
_MATERIALS = ("embroidered", "plastic", "origami", "toy", "cartoon", "plushie")


def _with_both_articles(*templates: str) -> tuple[str, ...]:
    return tuple(template.replace("<a>", article) for template in templates for article in ("a", "the"))


# Radford et al. 2021 (CLIP), the ImageNet set, and the bare name in front. Their order has no meaning: ensembles are means.
TEMPLATES: tuple[str, ...] = (
    "{}.",
    *_with_both_articles(
        "a photo of <a> {}.",
        *(f"a photo of <a> {kind} {{}}." for kind in _KINDS_OF_THING),
        *(f"a {kind} photo of <a> {{}}." for kind in _KINDS_OF_PHOTO),
        *(f"a {kind} of <a> {{}}." for kind in _KINDS_OF_WORK),
        *(f"{kind} of <a> {{}}." for kind in ("graffiti", "art", "itap")),
        *(f"<a> {material} {{}}." for material in _MATERIALS),
        "<a> {} in a video game.",
    ),
    *(f"a photo of {word} {{}}." for word in ("many", "my", "one")),
    "itap of my {}.",
)


def clean(name: str) -> str:
    """A class name without the markers of COCO's merged stuff classes: "sky-other-merged" becomes "sky"."""
    for suffix in _SUFFIXES:
        name = name.replace(suffix, "")
    return name


def fill(name: str, template: str) -> str:
    """The template with the cleaned name in its place."""
    return template.replace("{}", clean(name))


def random_prompt(name: str, generator: torch.Generator | None = None) -> str:
    """The name in a template drawn at random, commas and plus signs taken out: how classes are named in training."""
    drawn = int(torch.randint(len(TEMPLATES), (), generator=generator))
    return fill(name.replace(",", "").replace("+", " "), TEMPLATES[drawn])
