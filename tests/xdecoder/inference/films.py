"""A small film: a red square that moves to the right, on grey that grows lighter."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from xdecoder.inference import video

SIZE = (64, 48)


def frame(number: int, size: tuple[int, int] = SIZE) -> Image.Image:
    pixels = np.full((size[1], size[0], 3), 90 + number, dtype=np.uint8)
    pixels[10:30, 5 + 3 * number : 25 + 3 * number] = (200, 30, 30)
    return Image.fromarray(pixels)


def film(path: Path, frames: int = 6, size: tuple[int, int] = SIZE) -> Path:
    with video.writer(path, size, Fraction(10)) as write:
        for number in range(frames):
            write(frame(number, size))
    return path
