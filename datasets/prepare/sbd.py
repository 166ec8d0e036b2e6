"""Semantic Boundaries: images of object numbers, from its MATLAB files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from datasets.prepare.work import make_images, write_image
from xdecoder.files import read_lines


def prepare(root: Path, workers: int = 1) -> list[Path]:
    """Make `SBD/inst_png` of `SBD/inst/*.mat`, for the pictures of `SBD/val.txt`."""
    home = root / "SBD"
    target = home / "inst_png"
    stems = [line.strip() for line in read_lines(home / "val.txt") if line.strip()]
    make_images({target / f"{stem}.png": home / "inst" / f"{stem}.mat" for stem in stems}, _number, "sbd", workers)
    return [target]


def _number(item: tuple[Path, Path]) -> None:
    from scipy.io import loadmat

    target, source = item
    try:
        numbers = loadmat(str(source))["GTinst"][0]["Segmentation"][0]
    except FileNotFoundError:
        raise ValueError(f"{source}: no such file") from None
    except (KeyError, IndexError, ValueError, NotImplementedError, OSError, TypeError) as error:
        raise ValueError(f"{source}: expected one of SBD's MATLAB files, with GTinst and its Segmentation ({error})") from None
    write_image(target, Image.fromarray(np.asarray(numbers, dtype=np.uint8)))
