"""The generated set `shapes`: its words, and what can be said of a scene.

Scenes of textured, shaded things that cover each other before two kinds of stuff. Twelve of the 96 colour-shape pairs are held
out of training and validation; every scene of the third split, `novel`, has one of them, and only those are referred to there.
How scenes are drawn stands in `datasets/prepare/painting.py`, how they are written in `datasets/prepare/shapes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart", "crescent", "diamond", "hexagon", "arrow", "cube")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
SIZES = ("small", "medium", "large")
STUFF = ("grass", "sand", "water", "sky", "brick", "wood")

Pair = tuple[str, str]  # (colour, shape)

HELD_OUT: tuple[Pair, ...] = tuple((COLOURS[(3 * i + 1) % len(COLOURS)], shape) for i, shape in enumerate(SHAPES))
"""One colour of each shape, every colour once or twice: never seen in training."""

SEEN: tuple[Pair, ...] = tuple((c, s) for s in SHAPES for c in COLOURS if (c, s) not in HELD_OUT)

_NUMBERS = ("no", "one", "two", "three", "four", "five")
_CLEARANCE = 0.06  # how far apart, as a share of the picture, two centres are before a relation is stated


@dataclass(frozen=True)
class Thing:
    """One object. Lengths in pixels, x to the right, y downwards."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float
    angle: float  # radians
    texture: str

    @property
    def pair(self) -> Pair:
        return self.colour, self.shape


@dataclass(frozen=True)
class Scene:
    """Things from the farthest to the nearest, before an upper and a lower kind of stuff."""

    things: tuple[Thing, ...]
    upper: str
    lower: str
    side: int  # pixels of the square picture


Fits = Callable[[Thing], bool]

_RELATIONS: tuple[tuple[str, Callable[[Thing, Thing], float]], ...] = (
    ("left of", lambda thing, other: other.x - thing.x),
    ("right of", lambda thing, other: thing.x - other.x),
    ("above", lambda thing, other: other.y - thing.y),
    ("below", lambda thing, other: thing.y - other.y),
)


def phrases(scene: Scene, thing: Thing, rng: np.random.Generator, limit: int = 3) -> list[str]:
    """Up to `limit` phrases that fit `thing` and nothing else in the scene; perhaps none."""
    plain = [text for text, fits in _plain(thing) if _only(scene, fits)]
    related = [text for text, fits in _related(scene, thing) if _only(scene, fits)]
    chosen = plain[:1]
    for pool in (related, plain[1:], related):
        left = [text for text in pool if text not in chosen]
        if left and len(chosen) < limit:
            chosen.append(left[rng.integers(len(left))])
    return chosen[: int(rng.integers(1, limit + 1))]


def pair_named(text: str) -> str:
    """The first colour and shape that stand beside each other in a text, such as "red star"; empty where none do."""
    words = text.split()
    return next((f"{a} {b}" for a, b in pairwise(words) if a in COLOURS and b in SHAPES), "")


def _plain(thing: Thing) -> list[tuple[str, Fits]]:
    return [
        (f"the {thing.colour} {thing.shape}", lambda other: other.pair == thing.pair),
        (
            f"the {thing.size} {thing.colour} {thing.shape}",
            lambda other: other.pair == thing.pair and other.size == thing.size,
        ),
    ]


def _related(scene: Scene, thing: Thing) -> list[tuple[str, Fits]]:
    """`the small red star left of the cube` for every thing that can serve as a landmark."""
    found = []
    for landmark in scene.things:
        if landmark is thing:
            continue
        for name in _landmark_names(scene, landmark):
            for words, distance in _RELATIONS:
                if distance(thing, landmark) < _CLEARANCE * scene.side:
                    continue
                for text, fits in _plain(thing):
                    # However slightly another one lies on the same side, the phrase would be in doubt.
                    found.append((f"{text} {words} {name}", _both(fits, landmark, distance)))
    return found


def _both(fits: Fits, landmark: Thing, distance: Callable[[Thing, Thing], float]) -> Fits:
    return lambda other: fits(other) and other is not landmark and distance(other, landmark) > 0


def _landmark_names(scene: Scene, landmark: Thing) -> list[str]:
    names: list[tuple[str, Fits]] = [
        (f"the {landmark.shape}", lambda other: other.shape == landmark.shape),
        (f"the {landmark.colour} {landmark.shape}", lambda other: other.pair == landmark.pair),
    ]
    return [text for text, fits in names if _only(scene, fits)][:1]


def _only(scene: Scene, fits: Fits) -> bool:
    return sum(fits(thing) for thing in scene.things) == 1


ANSWERS: tuple[str, ...] = ("yes", "no", *"012345", "left", "right", *COLOURS, *SHAPES)
"""What the questions about a scene can be answered with."""


def questions(scene: Scene, rng: np.random.Generator) -> list[tuple[str, str, str]]:
    """Up to six questions that have one right answer each: (text, answer, kind), in random order."""
    shapes = [thing.shape for thing in scene.things]
    things = [thing for thing in scene.things if shapes.count(thing.shape) == 1]
    asked = [_count(scene, rng), _presence(scene, rng, True), _presence(scene, rng, False)]
    if things:
        thing = things[rng.integers(len(things))]
        asked.append((f"what colour is the {thing.shape}?", thing.colour, "colour"))
    pairs = [(a, b) for a in things for b in things if a is not b]
    beside = [(a, b) for a, b in pairs if abs(a.x - b.x) >= 2 * _CLEARANCE * scene.side]
    if beside:
        a, b = beside[rng.integers(len(beside))]
        asked.append((f"is the {a.shape} left or right of the {b.shape}?", "left" if a.x < b.x else "right", "side"))
    unlike = [(a, b) for a, b in pairs if max(a.radius, b.radius) >= 1.25 * min(a.radius, b.radius)]
    if unlike:
        a, b = unlike[rng.integers(len(unlike))]
        larger = a if a.radius > b.radius else b
        asked.append((f"which is larger, the {a.shape} or the {b.shape}?", larger.shape, "size"))
    return [asked[i] for i in rng.permutation(len(asked))]


def _count(scene: Scene, rng: np.random.Generator) -> tuple[str, str, str]:
    """How many there are of all things, of a colour or of a shape; half of the latter are there."""
    kind = rng.integers(3)
    if kind == 0:
        return "how many things are there?", str(len(scene.things)), "count"
    attribute, words = ("colour", COLOURS) if kind == 1 else ("shape", SHAPES)
    there = [getattr(thing, attribute) for thing in scene.things]
    word = there[rng.integers(len(there))] if rng.random() < 0.7 else words[rng.integers(len(words))]
    name = f"{word} things" if kind == 1 else _plural(word)
    return f"how many {name} are there?", str(there.count(word)), "count"


def _presence(scene: Scene, rng: np.random.Generator, there: bool) -> tuple[str, str, str]:
    """Whether there is a thing of a colour and a shape; what is not there differs in one of them from what is."""
    pairs = {thing.pair for thing in scene.things}
    colour, shape = sorted(pairs)[rng.integers(len(pairs))]
    if not there:
        near = [*((other, shape) for other in COLOURS), *((colour, other) for other in SHAPES)]
        absent = [pair for pair in near if pair not in pairs]
        colour, shape = absent[rng.integers(len(absent))]
    return f"is there {_with_article(f'{colour} {shape}')}?", "yes" if there else "no", "presence"


def _plural(shape: str) -> str:
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def captions(scene: Scene, rng: np.random.Generator) -> list[str]:
    """Three to five captions. Each names every thing with colour and shape, from left to right; some say sizes, relations."""
    things = sorted(scene.things, key=lambda thing: thing.x)
    plain, sized = _listed(things, False), _listed(things, True)
    texts = [
        f"{plain} on {scene.lower}",
        f"{sized} before {scene.upper} and {scene.lower}",
        _chained(scene, things),
        f"{_NUMBERS[len(things)]} things on {scene.lower}: {plain}",
        sized,
    ]
    return texts[:3] + [text for text in texts[3:] if rng.random() < 0.5]


def _listed(things: Sequence[Thing], with_size: bool) -> str:
    names = [_name(thing, things[:i], with_size) for i, thing in enumerate(things)]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _chained(scene: Scene, things: Sequence[Thing]) -> str:
    """The two leftmost things in relation, then the others."""
    first, second = things[:2]
    fitting = [(distance(first, second), words) for words, distance in _RELATIONS]
    text = f"{_name(first, (), True)} {max(fitting)[1]} {_name(second, (first,), True)}"
    rest = things[2:]
    return f"{text} with {_listed(rest, False)} on {scene.lower}" if rest else f"{text} on {scene.lower}"


def _name(thing: Thing, before: Sequence[Thing], with_size: bool) -> str:
    words = f"{thing.size} {thing.colour} {thing.shape}" if with_size else f"{thing.colour} {thing.shape}"
    if any(other.pair == thing.pair and (not with_size or other.size == thing.size) for other in before):
        return f"another {words}"
    return _with_article(words)


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
