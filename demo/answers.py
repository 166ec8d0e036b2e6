"""What the web page asks a network: one function a task, from a picture and texts to a `Reply`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from xdecoder.files import lines_in as lines_of
from xdecoder.images import decode, rgb, upright
from xdecoder.inference.drawing import class_colours, muted
from xdecoder.inference.predictor import Predictor
from xdecoder.inference.results import Drawable, Instances, Panoptic, Regions, Semantic
from xdecoder.language.prompts import clean
from xdecoder.tasks.retrieval import shares

SHOWN_SIDE = 1280  # larger pictures are made smaller: it is what a screen shows, and more than most networks look at
MAX_TEXTS = {"class name": 200, "phrase": 20, "sentence": 50}
MAX_LENGTH = 200  # characters of one text
MAX_LETTERS = 4000  # of all texts of a question: what an answer costs grows with them


@dataclass(frozen=True)
class Texts:
    """What stands in the page's fields."""

    things: str = ""
    stuff: str = ""
    classes: str = ""
    phrases: str = ""
    sentences: str = ""
    question: str = ""
    threshold: float = 0.4


@dataclass(frozen=True)
class Reply:
    """What the page shows."""

    headline: str
    content: dict[str, Any]  # told as JSON
    picture: Image.Image | None = None  # the ground of the regions
    drawing: Image.Image | None = None
    overlay: Image.Image | None = None  # the drawing's regions on a transparent ground
    regions: tuple[tuple[np.ndarray, str], ...] = ()  # masks (H, W) of 0…1 and their labels, for the pointer to find
    colours: tuple[tuple[str, str], ...] = ()  # of each label, as #rrggbb
    scores: tuple[tuple[str, float], ...] = ()  # a bar each

    @property
    def json(self) -> str:
        return json.dumps(self.content, indent=1)


def open_upload(path: str | Path) -> Image.Image:
    """An uploaded file as an upright RGB picture of at most SHOWN_SIDE pixels a side.

    Raises:
        ValueError: for a file that is no picture, or whose pixels would fill the memory: its header is read before they are.
    """
    picture = rgb(upright(decode(path, name="This file", draft=SHOWN_SIDE)), "This file")
    picture.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.LANCZOS)
    return picture


def panoptic(model: Predictor, picture: Image.Image, texts: Texts) -> Reply:
    """Things one by one, and stuff."""
    things, stuff = names_in(texts.things), names_in(texts.stuff)
    result = model.panoptic(picture, things, stuff, threshold=texts.threshold)
    return _seen(result, class_colours(result.vocabulary.names), result.vocabulary.names)


def semantic(model: Predictor, picture: Image.Image, texts: Texts) -> Reply:
    """A class for each pixel."""
    result = model.segment(picture, names_in(texts.classes))
    return _seen(result, class_colours(result.names), result.names)


def instances(model: Predictor, picture: Image.Image, texts: Texts) -> Reply:
    """Each thing of some classes, with a score."""
    result = model.instances(picture, names_in(texts.things), threshold=texts.threshold)
    drawn = _seen(result, class_colours(result.names), result.names)
    return replace(drawn, drawing=result.draw(threshold=0.0), overlay=result.draw(overlay_only=True, threshold=0.0))


def refer(model: Predictor, picture: Image.Image, texts: Texts) -> Reply:
    """What each phrase means."""
    phrases = tuple(lines_in(texts.phrases, "phrase"))
    result = model.refer(picture, phrases)
    return _seen(result, class_colours(phrases), phrases)


def caption(model: Predictor, picture: Image.Image, texts: Texts) -> Reply:
    """A sentence about the picture."""
    sentence = model.caption(picture)
    return Reply(f"“{sentence}”" if sentence else "The network found no words.", {"caption": sentence}, picture)


def caption_region(model: Predictor, picture: Image.Image, texts: Texts) -> Reply:
    """A sentence about what the first phrase means."""
    phrase = lines_in(texts.phrases, "phrase")[0]
    encoded = model.encode(picture)
    found = encoded.refer([phrase])
    sentence = encoded.caption(region=found.masks[0]) if found.masks[0].any() else ""
    reply = _seen(found, class_colours([phrase]), [phrase])
    return replace(reply, headline=f"“{sentence}”", content={"caption": sentence, **reply.content})


def match(model: Predictor, picture: Image.Image, texts: Texts) -> Reply:
    """How well each sentence fits the picture."""
    sentences = lines_in(texts.sentences, "sentence")
    cosines = model.match(picture, sentences)
    ranked = sorted(zip(sentences, shares(model.model, cosines), cosines.tolist(), strict=True), key=lambda row: -row[1])
    content = {"texts": [{"text": text, "cosine": cosine, "share": share} for text, share, cosine in ranked]}
    return Reply(f"Best: “{ranked[0][0]}”", content, picture, scores=tuple((text, share) for text, share, _ in ranked))


def answer(model: Predictor, picture: Image.Image, texts: Texts) -> Reply:
    """An answer to a question."""
    if not texts.question.strip():
        raise ValueError("Write a question first.")
    said = model.answer(picture, texts.question[:MAX_LENGTH])
    return Reply(f"“{said.text}”", {"question": texts.question, "answer": said.text, "score": said.score}, picture)


def find(model: Predictor, pictures: list[Image.Image], text: str) -> Reply:
    """The picture that fits a text best, and the place in it that the text means."""
    (sentence,) = lines_in(text, "sentence")[:1]
    found = model.find(pictures, sentence)
    reply = _seen(found.region, class_colours([sentence]), [sentence])
    trust = shares(model.model, torch.tensor(found.ranking.scores))
    bars = tuple((f"picture {i + 1}", trust[i]) for i in found.ranking.order)
    content = {"text": sentence, "best": found.index + 1, "cosines": list(found.ranking.scores), **reply.content}
    return replace(reply, headline=f"Picture {found.index + 1} of {len(pictures)} fits best.", content=content, scores=bars)


KINDS: dict[type[Drawable], tuple[str, str]] = {
    Panoptic: ("segment", "segments"),
    Semantic: ("class", "classes"),
    Instances: ("thing", "things"),
    Regions: ("region", "regions"),
}
"""What a result's regions are called, one and several."""

Ask = Callable[[Predictor, Image.Image, Texts], Reply]


def names_in(text: str) -> list[str]:
    """Class names, separated by commas or lines; each once, in their order."""
    return _checked(dict.fromkeys(name.strip() for line in lines_of(text) for name in line.split(",")), "class name")


def lines_in(text: str, kind: str) -> list[str]:
    """One text a line; raises ValueError if there is none."""
    texts = _checked(dict.fromkeys(lines_of(text)), kind)
    if not texts:
        raise ValueError(f"Write at least one {kind} first, one a line.")
    return texts


def _checked(texts: Iterable[str], kind: str) -> list[str]:
    found = [text for text in texts if text]
    if len(found) > MAX_TEXTS[kind] or any(len(text) > MAX_LENGTH for text in found):
        most = MAX_TEXTS[kind]
        raise ValueError(f"Ask about at most {most} texts at once, each {kind} of at most {MAX_LENGTH} characters.")
    if (letters := sum(map(len, found))) > MAX_LETTERS:
        raise ValueError(f"Ask with at most {MAX_LETTERS} characters at once, not {letters}.")
    return found


def _seen(result: Drawable, colours: Iterable[tuple[int, int, int]], names: Iterable[str]) -> Reply:
    """The reply that shows a result's regions; several of one name are numbered, so that the pointer tells them apart."""
    colour_of = {name: "#{:02x}{:02x}{:02x}".format(*colour) for name, colour in zip(names, colours, strict=True)}
    found = [(known["name"], mask.numpy()) for known, mask in result.regions() if mask.any()]
    known_names = [name for name, _ in found]
    counts: dict[str, int] = {}
    regions, colours_of_labels = [], []
    for name, mask in found:
        counts[name] = counts.get(name, 0) + 1
        label = clean(name) + (f" {counts[name]}" if known_names.count(name) > 1 else "")
        regions.append((mask * 0.6, label))
        colours_of_labels.append((label, colour_of[name]))
    return Reply(
        headline=_count(len(regions), KINDS[type(result)]),
        content=result.to_json(),
        picture=result.image if isinstance(result, Regions) else muted(result.image),
        drawing=result.draw(),
        overlay=result.draw(overlay_only=True),
        regions=tuple(regions),
        colours=tuple(colours_of_labels),
    )


def _count(number: int, kind: tuple[str, str]) -> str:
    if not number:
        return "Nothing was found. A lower threshold or other words may help."
    return f"{number} {kind[number > 1]} found"
