"""What the command line tells a terminal: how far it has come, and what went wrong."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from xdecoder import memory

if TYPE_CHECKING:
    from xdecoder.cli.photos import Photo


EXIT_ERROR = 2


def progress(photos: Sequence[Photo]) -> Iterator[Photo]:
    """The photos one by one, while a line on the standard error says how far it has come, if that is a terminal."""
    start = time.monotonic()
    for done, photo in enumerate(photos):
        left = f", {(time.monotonic() - start) / done * (len(photos) - done):.0f} s left" if done else ""
        show(f"[{done + 1}/{len(photos)}{left}] {photo.path}")
        yield photo
    show("")


def show(line: str) -> None:
    """Put a line in place of the last one, if this is a terminal; an empty one takes it away."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def complain(error: BaseException) -> int:
    """Tell in one sentence what went wrong; the exit status."""
    show("")
    said = " ".join(str(error).split()) or type(error).__name__
    if memory.ran_out(error):
        said = "out of memory; try --half, --tile 1024 or --device cpu"
    elif isinstance(error, OSError) and error.filename:
        said = f"{error.filename}: {error.strerror}"
    print(f"error: {said}", file=sys.stderr)
    return EXIT_ERROR
