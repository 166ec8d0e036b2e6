"""Objects that are marked on one image, found in others: in other pictures, and in all frames of a film.

As published (SEEM's video demo) each frame is looked at by itself: what is marked on the reference becomes example tokens, and
these go along with every frame. Nothing is remembered from frame to frame, so that memory does not grow with a film.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from xdecoder import rle
from xdecoder.files import atomic, make_folder, read_json, regular, shown, write_json
from xdecoder.images import decode
from xdecoder.inference.example import Example
from xdecoder.inference.picture import Picture
from xdecoder.inference.predictor import Predictor
from xdecoder.inference.video import Film
from xdecoder.tasks import interactive

MOST_OBJECTS = 254  # of a PNG of their numbers
LONGEST = 1 << 20  # bytes of a file's first line
FORMAT = "xdecoder-track/1"


@dataclass(frozen=True)
class Mark:
    """What is said of one object on the reference frame; x before y, in pixels."""

    points: tuple[tuple[float, ...], ...] = ()
    box: tuple[float, ...] | None = None


def marked_masks(picture: Picture, marks: Sequence[Mark]) -> Tensor:
    """The masks (N, H, W) bool of what is marked.

    Raises:
        ValueError: for a mark outside the image, an object of which no pixel is found, and as `Session` does.
    """
    session = picture.interact()
    for number, mark in enumerate(marks):
        if number:
            session.new_object()
        if mark.box is not None:
            session.box(*mark.box)
        if mark.points:
            session.clicks(mark.points, [1] * len(mark.points))
    masks = session.masks
    for number, mask in enumerate(masks, start=1):
        if not mask.any():
            raise ValueError(f"nothing was found where object {number} is marked; mark it elsewhere, or by a box around it")
    return masks


def example_of(predictor: Predictor, reference: Picture, masks: Tensor) -> Example:
    """Objects by their masks (N, H, W) bool on a reference; raises ValueError for a network that reads no strokes."""
    encoder = interactive.strokes_of(predictor.able(interactive.DESCRIPTOR))
    return Example.of(encoder, reference.view(interactive.DESCRIPTOR), masks)


@dataclass(frozen=True)
class Tracked:
    """A frame's objects."""

    masks: NDArray[np.bool_]  # (N, H, W)
    scores: tuple[float, ...] = ()  # cosines; () = not known, of masks that were kept as PNGs


class Kept(Protocol):
    """Where masks are kept, so that an interrupted command can go on."""

    def get(self, number: int) -> Tracked | None:
        """What is kept of a frame; frames are asked for in turn."""
        ...

    def put(self, number: int, found: Tracked) -> None: ...


def kept_masks(path: Path, told: dict[str, Any]) -> Kept:
    """A file of JSON lines, by its suffix .jsonl, or a folder of PNGs.

    Args:
        told: what the masks are of. It is kept beside them; what is there already must be of the same.

    Raises:
        ValueError: naming a file or folder that is of something else.
    """
    told = {"format": FORMAT, **told}
    if path.suffix.lower() == ".jsonl":
        return KeptLines(path, told)
    if path.suffix and not path.is_dir():
        raise ValueError(f"{path}: masks are kept in a .jsonl file, or in a folder of PNGs")
    return KeptImages(path, told)


class KeptLines:
    """COCO's run lengths, a line of JSON a frame; the first line tells of what."""

    def __init__(self, path: Path, told: dict[str, Any]) -> None:
        self.path, self.objects, self.size = path, told["objects"], (told["height"], told["width"])
        self._end = 0
        if path.exists():
            self._end = _whole(path)
            with open(path, "rb") as file:
                _check_told(path, _object(path, 1, file.readline(LONGEST).decode(errors="replace")), told)
        else:
            make_folder(path.parent)
            path.write_text(json.dumps(told) + "\n")
        self._kept = self._read()

    def get(self, number: int) -> Tracked | None:
        return next(self._kept, None)

    def put(self, number: int, found: Tracked) -> None:
        rows = [
            {"object": i, "score": score, **rle.describe(mask)}
            for i, (mask, score) in enumerate(zip(found.masks, found.scores, strict=True), start=1)
        ]
        with open(self.path, "a") as file:
            file.write(json.dumps({"frame": number, "objects": rows}) + "\n")

    def _read(self) -> Iterator[Tracked]:
        """What whole lines hold; raises ValueError for what was not written here."""
        if not self._end:
            return
        with open(self.path, "rb+") as file:
            file.truncate(self._end)  # the rest is a line that was being written
        with open(self.path, "rb") as file:
            next(file)
            for number, line in enumerate(file):
                row = _object(self.path, number + 2, line.decode(errors="replace"))
                try:
                    masks = [rle.mask(each["segmentation"]["counts"], *self.size) for each in row["objects"]]
                    scores = tuple(float(each["score"]) for each in row["objects"])
                except (KeyError, TypeError, ValueError, AttributeError):
                    masks = []
                if row.get("frame") != number or len(masks) != self.objects:
                    raise ValueError(f"{self.path}: line {number + 2} does not hold the objects of frame {number}")
                yield Tracked(np.stack(masks), scores)


class KeptImages:
    """A PNG a frame with the number of the object of each pixel, 0 = none; of several the surest."""

    def __init__(self, folder: Path, told: dict[str, Any]) -> None:
        self.folder, self.objects, self.size = folder, told["objects"], (told["height"], told["width"])
        if self.objects > MOST_OBJECTS:
            raise ValueError(f"{folder}: a PNG holds {MOST_OBJECTS} objects at most; keep masks as .jsonl")
        path = folder / "track.json"
        if path.exists():
            _check_told(path, read_json(path), told)
        elif folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder}: is not empty, and holds no masks of a film; name another folder")
        else:
            write_json(path, told)

    def get(self, number: int) -> Tracked | None:
        path = self._file(number)
        if not path.exists():
            return None
        values = np.array(decode(path, "mask"))
        if values.shape != self.size:
            raise ValueError(f"{path}: is {values.shape} (height, width), but the film's frames are {self.size}")
        return Tracked(values == np.arange(1, self.objects + 1)[:, None, None])

    def put(self, number: int, found: Tracked) -> None:
        values = np.zeros(self.size, dtype=np.uint8)
        for place in np.argsort(found.scores, kind="stable"):
            values[found.masks[place]] = place + 1
        with atomic(self._file(number)) as file:
            Image.fromarray(values).save(file, "PNG")

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06}.png"


def track(
    predictor: Predictor, film: Film, example: Example, objects: int, kept: Kept | None = None, least: float = -1.0
) -> Iterator[tuple[Image.Image, Tracked]]:
    """Each frame of a film, and the objects on it; of frames whose masks are kept these are read.

    Args:
        least: similarity below which an object counts as not there, and has an empty mask.

    Raises:
        ValueError: for a film that cannot be read to its end.
    """
    names = names_of(objects)
    for number, image in enumerate(film.frames()):
        found = kept.get(number) if kept else None
        if found is None:
            regions = example.find(image, predictor.encode(image).view(interactive.DESCRIPTOR), names)
            masks = regions.masks & (regions.scores >= least)[:, None, None]
            found = Tracked(masks.numpy(), tuple(round(score, 6) for score in regions.scores.tolist()))
            if kept:
                kept.put(number, found)
        yield image, found


def names_of(objects: int) -> list[str]:
    """How objects are called, and so which colours they have: the same in all frames and films."""
    return [f"object {number}" for number in range(1, objects + 1)]


def _check_told(path: Path, there: Any, told: dict[str, Any]) -> None:
    for key, value in told.items():
        if not isinstance(there, dict) or there.get(key) != value:
            other = shown(there.get(key)) if isinstance(there, dict) else "nothing of the kind"
            raise ValueError(
                f"{path}: is of another film or other marks ({key}: {other}, not {shown(value)}); name another place"
            )


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise ValueError(f"{path}: line {number} is no JSON object")
    return row


def _whole(path: Path) -> int:
    """How many bytes of a file are whole lines."""
    with open(regular(path), "rb") as file:
        return sum(len(line) for line in file if line.endswith(b"\n"))
