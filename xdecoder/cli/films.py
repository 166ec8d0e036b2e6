"""What the command `xdecoder` does with films: questions about every frame, and `xdecoder track`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from xdecoder.files import atomic
from xdecoder.inference import drawing, tracking, video
from xdecoder.integrity import digest_of_network

if TYPE_CHECKING:
    from xdecoder.inference.predictor import Predictor

Show = Callable[[str], None]
SAVED = ("json", "png")


def ask(model: Predictor, path: Path, target: Path | None, options: argparse.Namespace, show: Show) -> list[Path]:
    """Ask about each frame of a film: a line of JSON a frame, and a film of the drawings where there are any.

    Args:
        target: of what is written, without suffix; None = lines go to the standard output.
        show: tells how far it has come.

    Returns:
        The files that were written.

    Raises:
        ValueError: for a film that cannot be read, and options that say nothing of films.
    """
    other = [name for name in options.save if name not in SAVED]
    if target is not None and other:
        raise ValueError(
            f"--save {other[0]}: of a film {' and '.join(SAVED)} are written, lines of JSON and a film of drawings"
        )
    film, files = video.open_film(path), []
    style = {"labels": not options.no_labels, "opacity": options.opacity, "keep_colors": options.keep_colors}
    with ExitStack() as stack:
        lines = None
        if target is not None:
            files.append(target.with_name(f"{target.name}.jsonl"))
            lines = stack.enter_context(atomic(files[0], "w"))
        write = None
        for number, image in enumerate(counted(film.frames(), film, show)):
            (answer,) = options.ask(model, [model.encode(image)], options)
            print(json.dumps({"picture": str(path), "frame": number, **answer.content}), file=lines, flush=lines is None)
            if answer.draw is not None and target is not None and "png" in options.save:
                drawn = answer.draw(overlay_only=False, **style)
                if write is None:
                    files.append(target.with_name(f"{target.name}.mp4"))
                    write = stack.enter_context(video.writer(files[-1], drawn.size, film.rate))
                write(drawn)
    return files


def track(load: Callable[[], Predictor], options: argparse.Namespace, show: Show) -> list[Path]:
    """`xdecoder track`: find what is marked on one frame in all of them; the files that were written.

    Raises:
        ValueError: for a film that cannot be read, marks outside of it or that nothing is found for, and places of other films.
    """
    film, marks = video.open_film(options.film), _marks(options)
    if options.out is None and options.masks is None:
        raise ValueError("track writes a film with --out FILE.mp4, masks with --masks FILE.jsonl or a folder, or both")
    with ExitStack() as stack:
        write = None if options.out is None else stack.enter_context(video.writer(options.out, drawn_size(film), film.rate))
        model = load()
        kept = None if options.masks is None else tracking.kept_masks(options.masks, _told(film, marks, options, model))
        reference = model.encode(film.frame(options.frame))
        example = tracking.example_of(model, reference, tracking.marked_masks(reference, marks))
        found = tracking.track(model, film, example, len(marks), kept, options.threshold)
        for image, objects in counted(found, film, show):
            if write is not None:
                write(drawing.draw_masks(image, objects.masks, tracking.names_of(len(marks))))
    return [path for path in (options.out, options.masks) if path is not None]


def counted(frames: Iterable[Any], film: video.Film, show: Show) -> Iterator[Any]:
    """The frames, while it is told how far they have come and what time is left."""
    start = time.monotonic()
    for number, frame in enumerate(frames, start=1):
        yield frame
        spent = time.monotonic() - start
        left = f", {spent / number * (film.count - number):.0f} s left" if film.count >= number else ""
        show(f"[{number}/{film.count or '?'}, {number / spent:.1f} frames/s{left}] {film.path}")
    show("")


def drawn_size(film: video.Film) -> tuple[int, int]:
    """Width and height of drawings of the film's frames: small ones are enlarged."""
    return drawing.enlarge(Image.new("RGB", film.size)).size


def _marks(options: argparse.Namespace) -> list[tracking.Mark]:
    marks = [tracking.Mark(points=tuple(points)) for points in options.click or ()]
    marks += [tracking.Mark(box=box) for box in options.box or ()]
    if not marks:
        raise ValueError("nothing is marked; say where an object is, with --click X,Y or --box X0,Y0,X1,Y1")
    return marks


def _told(film: video.Film, marks: Sequence[tracking.Mark], options: argparse.Namespace, model: Predictor) -> dict[str, Any]:
    """What kept masks are of."""
    return {
        "film": film.path.name,
        "width": film.size[0],
        "height": film.size[1],
        "objects": len(marks),
        "frame": options.frame,
        "clicks": [[list(point) for point in mark.points] for mark in marks if mark.points],
        "boxes": [list(mark.box) for mark in marks if mark.box is not None],
        "threshold": options.threshold,
        "network": digest_of_network(model.model),
    }
