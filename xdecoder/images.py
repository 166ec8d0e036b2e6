"""Pictures from wherever they come: a path, an open file, PIL, NumPy or torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

ImageLike: TypeAlias = str | Path | BinaryIO | Image.Image | np.ndarray | Tensor
"""A path or open file, a PIL image, an (H, W, 3) uint8 array or a (3, H, W) uint8 tensor."""

MAX_PIXELS = 178_000_000
MAX_ASPECT = 4  # a longer picture is shown squeezed


def open_image(image: ImageLike, max_pixels: int | None = None, formats: tuple[str, ...] | None = None) -> Image.Image:
    """RGB picture, turned as its camera was held.

    Args:
        max_pixels: a file's header is read before its pixels are, and one that says more is refused; None = MAX_PIXELS.
        formats: Pillow's names of those that are read; for strangers' files a few that are pictures and nothing else.

    Raises:
        ValueError: naming a file that is missing, truncated, no picture, or too large.
    """
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    if isinstance(image, Tensor):
        image = image.permute(1, 2, 0).cpu().numpy() if image.dim() == 3 else image.cpu().numpy()
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(f"a picture must hold three channels of uint8, not {image.dtype} of shape {image.shape}")
        return Image.fromarray(np.ascontiguousarray(image))
    if isinstance(image, Image.Image):
        return _upright(image)
    name = image if isinstance(image, (str, Path)) else getattr(image, "name", "the file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit, of half as many pixels, and its musings on odd files
            with Image.open(image, formats=formats) as file:
                if file.width * file.height > limit:
                    raise ValueError(f"{name}: too large a picture, {file.width} × {file.height}; at most {limit} pixels")
                return _upright(file)
    except FileNotFoundError:
        raise ValueError(f"{name}: no such picture") from None
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError) as error:
        raise ValueError(f"{name}: not a readable picture ({error})") from None


def _upright(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow would cut the values off at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return ImageOps.exif_transpose(image).convert("RGB")


def shorter_side(image: Image.Image, size: int) -> Image.Image:
    """The picture with its shorter side at `size`."""
    shown = [min(max(round(side * size / min(image.size)), 1), MAX_ASPECT * size) for side in image.size]
    return image.resize((shown[0], shown[1]), Image.Resampling.BICUBIC)


def pixels(image: Image.Image) -> Tensor:
    """(3, H, W) uint8."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
