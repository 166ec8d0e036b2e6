"""Pictures on which visitors mark objects: a session each, encoded once, as many as there is room for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from demo.page.replies import Region
from demo.page.uploads import FORGED
from xdecoder.inference.drawing import class_colours
from xdecoder.inference.picture import Picture
from xdecoder.inference.session import Session
from xdecoder.serving.session import held_bytes

MOST_VISITORS = 24  # whose pictures are kept; the one that did nothing for longest goes first
MOST_BYTES = 1_000_000_000  # of what is remembered of all of them
MOST_OBJECTS = 8  # of a picture: a round costs by their number
MOST_ROUNDS = 50  # that can be undone, each with the strokes of its time
KINDS = ("click", "brush", "box")


class Mark(NamedTuple):
    """What a visitor has drawn, in pixels of the picture."""

    kind: str
    points: tuple[tuple[float, float], ...]
    positive: bool
    width: float
    owner: int  # the object


@dataclass
class Marked:
    """One visitor's picture."""

    network: str
    picture: Picture
    session: Session
    history: tuple[tuple[Mark, ...], ...] = ((),)  # the marks after each call, which an undo goes back to

    def mark(self, kind: Any, points: Any, positive: Any, width: Any) -> None:
        """Add marks as the browser sends them; raises ValueError in a sentence."""
        right = kind in KINDS and _are_points(points) and isinstance(positive, bool) and _is_number(width)
        if not right or (kind == "box" and len(points) != 2):
            raise ValueError(FORGED)
        self._check_room()
        width = min(max(float(width), 1), 200)
        owner = self.session.current
        if kind == "click":
            self.session.click(*points[0], positive=positive)
        elif kind == "brush":
            self.session.stroke(points, width=width, positive=positive)
        else:
            self.session.box(*points[0], *points[1])
        mark = Mark(kind, tuple((x, y) for x, y in points), positive, width, owner)
        self.history = (*self.history, (*self.history[-1], mark))

    def new_object(self) -> None:
        """What is marked next is another object; raises ValueError for one too many."""
        if self.session.objects >= MOST_OBJECTS:
            raise ValueError(f"At most {MOST_OBJECTS} objects can be marked at once.")
        self._check_room()
        self.session.new_object()
        self.history = (*self.history, self.history[-1])

    def select(self, number: Any) -> None:
        """What is marked next belongs to this object; raises ValueError if there is none."""
        if not isinstance(number, int) or isinstance(number, bool):
            raise ValueError(FORGED)
        self._check_room()
        self.session.select(number)
        self.history = (*self.history, self.history[-1])

    def undo(self) -> None:
        """Take back the last call; raises ValueError if there is none."""
        self.session.undo()
        self.history = self.history[:-1]

    def reset(self) -> None:
        """Begin again, with nothing to undo."""
        self.session, self.history = self.picture.interact(), ((),)

    def regions(self) -> tuple[Region, ...]:
        """The objects as they are now, each in its own colour."""
        found = zip(self.session.regions(), object_colours(), strict=False)
        return tuple(Region(known["name"], colour, mask.numpy(), known["score"]) for (known, mask), colour in found)

    def object_mask(self) -> NDArray[np.bool_]:
        """(H, W) of the current object; raises ValueError if nothing of it is marked."""
        masks, current = self.session.masks, self.session.current
        if current >= len(masks) or not masks[current].any():
            raise ValueError("Mark something first: there is no object to look for.")
        found: NDArray[np.bool_] = masks[current].numpy()
        return found

    def _check_room(self) -> None:
        if len(self.history) > MOST_ROUNDS:
            raise ValueError(f"That were {MOST_ROUNDS} marks; undo some, or begin again.")


class Rounds:
    """The pictures of all visitors."""

    def __init__(self, most: int = MOST_VISITORS) -> None:
        self._most = most
        self._of: OrderedDict[Hashable, Marked] = OrderedDict()

    def __len__(self) -> int:
        return len(self._of)

    def begin(self, visitor: Hashable, network: str, picture: Picture) -> Marked:
        """A picture in place of the visitor's last one."""
        self._of.pop(visitor, None)
        self._of[visitor] = Marked(network, picture, picture.interact())
        held = sum(held_bytes([each.picture.views, each.session]) for each in self._of.values())
        while len(self._of) > self._most or (held > MOST_BYTES and len(self._of) > 1):
            _, oldest = self._of.popitem(last=False)
            held -= held_bytes([oldest.picture.views, oldest.session])
        return self._of[visitor]

    def of(self, visitor: Hashable) -> Marked:
        """What a visitor has begun; raises ValueError if that is nothing, or was put away for others."""
        if visitor not in self._of:
            raise ValueError("Choose a picture first; one that was left alone for long is put away when others come.")
        self._of.move_to_end(visitor)
        return self._of[visitor]


def object_colours() -> list[str]:
    """Of the first, second, … object, as #rrggbb; however many there are, each keeps its own."""
    return ["#{:02x}{:02x}{:02x}".format(*colour) for colour in class_colours([f"object {i + 1}" for i in range(MOST_OBJECTS)])]


def _are_points(points: Any) -> bool:
    """Whether something is a list of pairs of numbers, and not an empty one."""
    pairs = isinstance(points, list) and points and all(isinstance(point, list) and len(point) == 2 for point in points)
    return bool(pairs) and all(_is_number(value) for point in points for value in point)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))
