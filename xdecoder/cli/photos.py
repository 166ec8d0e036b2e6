"""Which pictures a command line means: files, folders with all below them, patterns and web addresses."""

from __future__ import annotations

import argparse
import glob
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from xdecoder.files import IMAGE_SUFFIXES, images_below, unread_below

ADDRESS = ("http://", "https://")


@dataclass(frozen=True)
class Photo:
    path: Path | str  # of a file, or a web address
    name: Path  # where its answer goes below --out, without suffix

    def content(self) -> Path | BinaryIO:
        """The file, or what the address gives; raises ValueError where it gives nothing."""
        if isinstance(self.path, Path):
            return self.path
        from xdecoder.download import fetch_image

        file = BytesIO(fetch_image(self.path))
        file.name = self.path
        return file


def named_images(options: argparse.Namespace) -> list[str]:
    """The line's pictures. A list such as `--things cat sofa photo.jpg` takes in those behind it: here they come out again.

    Raises:
        ValueError: where none is named.
    """
    found: list[str] = list(options.images)
    for name in ("things", "stuff", "classes", "phrases", "names"):
        names: list[str] = getattr(options, name, [])
        if not found and names and _is_image(names[-1]):
            last = next(i for i, each in enumerate(names) if all(_is_image(other) for other in names[i:]))
            found, names[last:] = names[last:], []
    if not found:
        raise ValueError("no picture is named; name files, folders or patterns before the options")
    return found


def _is_image(name: str) -> bool:
    return Path(name).exists() or Path(name).suffix.lower() in IMAGE_SUFFIXES


def images_of(given: Sequence[str], urls: bool = False) -> list[Photo]:
    """The pictures that files, folders and patterns name, folders with all below them, in the order of the line.

    Args:
        urls: take web addresses as well.

    Raises:
        ValueError: for a name that matches nothing, and where two answers would go to the same file.
    """
    found = [photo for name in given for photo in _named(name, urls)]
    photos = list({photo.path: photo for photo in found}.values())
    times = Counter(photo.name for photo in photos)
    photos = [
        replace(photo, name=photo.name.with_name(PurePosixPath(photo.path).name)) if times[photo.name] > 1 else photo
        for photo in photos
    ]
    first: dict[Path, Photo] = {}
    for photo in photos:
        if (other := first.setdefault(photo.name, photo)) is not photo:
            raise ValueError(
                f"{other.path} and {photo.path} would both be answered in {photo.name}.json; name their common folder instead, "
                "or ask about them in two runs"
            )
    return photos


def _named(name: str, urls: bool) -> list[Photo]:
    """The pictures that one word of the line names; raises ValueError if there are none."""
    path = Path(name)
    if name.startswith(ADDRESS):
        if not urls:
            raise ValueError(f"{name}: is a web address; add --urls to fetch pictures")
        return [Photo(name, Path(PurePosixPath(urlsplit(name).path).stem or "picture"))]
    if path.is_dir():
        found = [Photo(path / below, Path(below).with_suffix("")) for below in images_below(path)]
        if unread := unread_below(path):
            told = f"{path / unread[0]}: is in a format that is not read, and is left out ({len(unread)} like this)"
            print(f"note: {told}; save such pictures as JPEG or PNG", file=sys.stderr)
    elif path.exists():
        found = [Photo(path, Path(path.stem))]
    else:
        found = [Photo(p, Path(p.stem)) for p in map(Path, sorted(glob.glob(name, recursive=True))) if p.is_file()]
    if not found:
        raise ValueError(f"{name}: no such picture, or a folder or pattern without any ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return found


def read_region(path: Path) -> Any:
    """A picture of a mask as (H, W) booleans: what is not black."""
    import numpy as np

    from xdecoder.images import open_image

    return np.asarray(open_image(path).convert("L")) > 0
