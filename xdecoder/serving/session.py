"""Pictures and masks behind handles: what a language model may name instead of files."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from xdecoder.config import Config
from xdecoder.files import atomic
from xdecoder.images import FORMATS, open_image
from xdecoder.inference.picture import Picture
from xdecoder.inference.predictor import Predictor

Mask = NDArray[np.bool_]  # (H, W)


class Limits(Config):
    """What one session may take."""

    pixels: int = Field(40_000_000, gt=0)
    """Of one picture."""

    pictures: int = Field(200, gt=0)
    """Handles at a time."""

    masks: int = Field(2_000, gt=0)
    """Of one picture; the oldest are forgotten."""

    encoded_bytes: int = Field(2_000_000_000, gt=0)
    """Memory of what was computed of pictures; those that were not asked about for longest are encoded anew when they are."""

    folder_bytes: int = Field(500_000_000, gt=0)
    """Disk space of uploads and edited pictures."""

    seconds: float = Field(120.0, gt=0)
    """Of one call, waiting included."""


@dataclass
class Entry:
    """What is behind a handle."""

    path: Path
    size: tuple[int, int]  # width, height
    origin: str  # in words
    masks: OrderedDict[str, tuple[NDArray[np.uint8], tuple[int, int]]] = field(default_factory=OrderedDict)  # packed bits
    counted: int = 0  # masks that there ever were


class Session:
    """Handles, the pictures behind them, and what is remembered of each.

    Args:
        folder: where uploads and edited pictures are written, and nothing else; it exists.
        root: files below it may be opened; None = none.
    """

    def __init__(self, predictor: Predictor, folder: Path, root: Path | None = None, limits: Limits | None = None) -> None:
        self.predictor, self.folder, self.limits = predictor, folder, limits or Limits()
        self.root = None if root is None else root.resolve()
        self.entries: dict[str, Entry] = {}
        self._encoded: OrderedDict[str, Picture] = OrderedDict()
        self._counted = 0

    def open(self, path: str) -> str:
        """The handle of a file below the root.

        Raises:
            ValueError: for a file that is not there or no picture, and for one elsewhere, also where a link leads to it.
        """
        if self.root is None:
            raise ValueError("no files may be opened here, because the server was started without --root; upload the picture")
        try:
            found = (self.root / path).resolve()
            inside = found.is_relative_to(self.root) and found.is_file()
        except (OSError, ValueError):  # names that are too long, or hold a zero byte
            inside = False
        if not inside:
            raise ValueError(f"{path[:200]!r}: no such file below the server's root")
        try:
            size = self._read(found).size
        except ValueError:
            raise ValueError(f"{path!r}: {self._kinds()}") from None
        return self._enter(Entry(found, size, f"file {path}"))

    def upload(self, data: bytes) -> str:
        """The handle of an encoded picture."""
        try:
            image = self._read(io.BytesIO(data))
        except ValueError:
            raise ValueError(f"the uploaded data: {self._kinds()}") from None
        return self.add(image, "upload")

    def add(self, image: Image.Image, origin: str) -> str:
        """The handle of a picture, which is written into the session's folder."""
        self._room()
        data = io.BytesIO()
        image.save(data, "PNG")
        used = sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file())
        if used + data.tell() > self.limits.folder_bytes:
            raise ValueError(
                f"the session's folder is full ({used} of {self.limits.folder_bytes} bytes); close pictures that are done with"
            )
        path = self.folder / f"img_{self._counted + 1}.png"
        with atomic(path) as file:
            file.write(data.getvalue())
        return self._enter(Entry(path, image.size, origin))

    def close(self, handle: str) -> None:
        """Forget a picture and its masks; a file that the session wrote is deleted."""
        entry = self.entry(handle)
        if entry.path.parent == self.folder:
            entry.path.unlink(missing_ok=True)
        self._encoded.pop(handle, None)
        del self.entries[handle]

    def entry(self, handle: str) -> Entry:
        if handle not in self.entries:
            known = ", ".join(self.entries) or "none yet"
            raise ValueError(f"{handle[:80]!r} is no picture of this session; known are: {known}")
        return self.entries[handle]

    def picture(self, handle: str) -> Picture:
        """The picture, encoded once as long as there is memory."""
        entry = self.entry(handle)
        if handle in self._encoded:
            self._encoded.move_to_end(handle)
            return self._encoded[handle]
        self.forget()
        self._encoded[handle] = self.predictor.encode(self._read(entry.path))
        return self._encoded[handle]

    def forget(self) -> None:
        """Drop what was computed of pictures not asked about for longest, until the rest fits."""
        sizes = {handle: held_bytes(picture.views) for handle, picture in self._encoded.items()}
        while self._encoded and sum(sizes.values()) > self.limits.encoded_bytes:
            oldest, _ = self._encoded.popitem(last=False)
            del sizes[oldest]

    def add_mask(self, handle: str, mask: Mask) -> str:
        """The handle of a mask (H, W) of a picture, such as img_1.mask_2."""
        entry = self.entry(handle)
        entry.counted += 1
        name = f"{handle}.mask_{entry.counted}"
        entry.masks[name] = np.packbits(mask), (mask.shape[0], mask.shape[1])
        if len(entry.masks) > self.limits.masks:
            entry.masks.popitem(last=False)
        return name

    def mask(self, name: str) -> Mask:
        handle = name.partition(".")[0]
        masks = self.entry(handle).masks
        if name not in masks:
            raise ValueError(f"{name[:80]!r} is no mask of {handle}; known are: {', '.join(masks) or 'none yet'}")
        bits, (height, width) = masks[name]
        return np.unpackbits(bits, count=height * width).reshape(height, width).astype(np.bool_)

    def _enter(self, entry: Entry) -> str:
        self._room()
        self._counted += 1
        self.entries[f"img_{self._counted}"] = entry
        return f"img_{self._counted}"

    def _room(self) -> None:
        if len(self.entries) >= self.limits.pictures:
            raise ValueError(f"there are {len(self.entries)} pictures open, which is the most; close some first")

    def _read(self, source: Path | io.BytesIO) -> Image.Image:
        return open_image(source, self.limits.pixels)

    def _kinds(self) -> str:
        return f"not a readable picture of at most {self.limits.pixels} pixels; {', '.join(FORMATS)} files are"


def held_bytes(tree: Any) -> int:
    """Bytes of the tensors in nested containers and plain objects, each counted once; networks do not count."""
    seen: dict[int, Any] = {}

    def count(each: Any) -> int:
        if each is None or isinstance(each, (str, int, float, bytes, nn.Module)) or id(each) in seen:
            return 0
        seen[id(each)] = each
        if isinstance(each, Tensor):
            return each.numel() * each.element_size()
        return sum(count(part) for part in _parts(each))

    return count(tree)


def _parts(each: Any) -> Iterable[Any]:
    if isinstance(each, dict):
        return each.values()
    if isinstance(each, (list, tuple)):
        return each
    declared = [getattr(each, f.name) for f in fields(each)] if is_dataclass(each) else []
    return [*declared, *getattr(each, "__dict__", {}).values()]
