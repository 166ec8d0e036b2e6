"""The one decoder of pictures, wherever they come from: a path, an open file, encoded bytes, PIL, NumPy or torch.

Whoever trains, measures, checks, asks or shows sees the same pixels. The rules, beyond what each format says itself:
16 bits become 8 by shifting (value >> 8); floating-point pixels are refused, since nobody knows their range, but for arrays
and tensors within 0…1; what is transparent becomes white; of several frames the first counts.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from xdecoder.files import FileError, regular, shown

ImageLike: TypeAlias = str | Path | BinaryIO | Image.Image | np.ndarray | Tensor
"""A path or open file, a PIL image, an array (H, W), (H, W, 3) or (H, W, 4), a tensor (1, H, W), (3, H, W) or (4, H, W): of
uint8, or of floats within 0…1."""

MAX_PIXELS = 100_000_000  # Pillow takes four bytes for each
MAX_ASPECT = 4  # a longer picture is shown squeezed
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of what is read. It knows others, some of which it hands to other programs."""

_KINDS = "a path, an open file, an image, an array or a tensor"
_ORIENTATION = 0x0112  # EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DAMAGED = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError, TypeError),
    *(ValueError, struct.error, zlib.error),
)
"""What Pillow's decoders raise where a damaged file misleads them."""


class Header(NamedTuple):
    """What a picture file says of itself before its pixels are read."""

    width: int  # as stored
    height: int
    orientation: int  # EXIF's: 1 = upright, 5 to 8 swap width and height

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height as displayed."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def open_image(image: ImageLike, max_pixels: int | None = None, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """RGB picture, turned as its camera was held.

    Args:
        max_pixels: a file's header is read before its pixels are, and one that says more is refused; None = MAX_PIXELS.
        formats: Pillow's names of those that are read; for strangers' files, a few that are images and nothing else.

    Raises:
        ValueError: naming a file that is missing, truncated, no picture, or of more than MAX_PIXELS.
    """
    if isinstance(image, Tensor):
        image = image.detach().cpu()
        image = (image.permute(1, 2, 0) if image.dim() == 3 else image).numpy()
    if isinstance(image, np.ndarray):
        return rgb(Image.fromarray(_bytes(image)), "the picture")
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise ValueError(f"a picture must have pixels, not size {image.size}")
        return rgb(upright(image), "the picture")
    if isinstance(image, bytes):  # they may be a file's content or its name
        raise ValueError(f"a picture is {_KINDS}, not bytes")
    return rgb(upright(decode(image, max_pixels=max_pixels, formats=formats)), _name(image))


def images_in(image: Any) -> list[Any] | None:
    """The images of a list, a tuple, or of an array (B, H, W, C) or tensor (B, C, H, W); None for a single image."""
    if isinstance(image, (list, tuple)):
        return list(image)
    return list(image) if isinstance(image, (np.ndarray, Tensor)) and image.ndim == 4 else None


def png(image: Image.Image) -> bytes:
    """An image as a PNG file, which notebooks show."""
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _bytes(values: np.ndarray) -> np.ndarray:
    """An array (H, W) or (H, W, 3 or 4) of uint8; raises ValueError for an array that is no picture."""
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if 0 in values.shape or not (values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))):
        raise ValueError(f"a picture has one, three or four channels, not the shape {values.shape}")
    if np.issubdtype(values.dtype, np.floating) and values.min() >= 0 and values.max() <= 1:
        values = np.rint(values * 255).astype(np.uint8)
    if values.dtype != np.uint8:
        raise ValueError(f"a picture must hold uint8, or floats within 0…1, not {values.dtype} of shape {values.shape}")
    return np.ascontiguousarray(values)


def decode(
    source: str | Path | bytes | BinaryIO,
    what: str = "picture",
    name: str | None = None,
    draft: int | None = None,
    max_pixels: int | None = None,
    formats: tuple[str, ...] = FORMATS,
) -> Image.Image:
    """A picture file's values as they are stored: neither turned nor brought to 8 bits or to RGB.

    Args:
        source: a path, an open file, or the bytes of a file.
        what: what it is called in messages, such as "label image".
        name: of the source in messages, if not its own.
        max_pixels, formats: as for `open_image`.
        draft: JPEGs may be read at a fraction of their size, of at least so many pixels a side.

    Raises:
        ValueError: in one sentence, if the file is missing, no ordinary one, damaged, or has more than MAX_PIXELS: that
            stands in its header, which is read before memory is asked for.
    """
    name = name or _name(source)
    with _opened(source, what, name, max_pixels, formats) as image:
        if draft:
            image.draft("RGB", (draft, draft))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's musings on odd files
                image.load()
        except _DAMAGED as error:
            raise FileError(f"{name}: the {what} is damaged or incomplete ({_said(error)})", "damaged") from None
        orientation(image)  # remembered by Pillow, which cannot read it later where it stands behind the pixels
        return image


def read_header(source: str | Path | bytes | BinaryIO, what: str = "picture", name: str | None = None) -> Header:
    """Size and orientation, without reading pixels; raises ValueError as `decode` does."""
    with _opened(source, what, name or _name(source)) as image:
        return Header(image.width, image.height, orientation(image))


def orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 = upright, also where the tag is missing or cannot be read."""
    if image.format == "TIFF":  # Pillow turns these itself, and gives their size as displayed
        return 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cameras write much that Pillow wonders about
            turned = image.getexif().get(_ORIENTATION, 1)
    except _DAMAGED:
        return 1
    return turned if turned in range(1, 9) else 1


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its camera was held, and no longer tagged as turned."""
    turn = _TURNS.get(orientation(image))
    if turn is None:
        return image
    turned = image.transpose(turn)
    turned.info = {key: value for key, value in image.info.items() if key == "transparency"}
    return turned


def rgb(image: Image.Image, name: str) -> Image.Image:
    """The picture in 8 bits and RGB, by the rules at the head of this file; raises ValueError with `name` where none fits."""
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError(f"{name}: holds values from {values.min()} to {values.max()}; a picture has 8 or 16 bits")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError(f"{name}: holds floating-point values, whose range nobody knows; save it with 8 or 16 bits")
    if image.has_transparency_data:
        return _on_white(image)
    try:
        return image.convert("RGB")
    except ValueError:
        raise ValueError(f"{name}: is a {image.mode} picture, which cannot be read; save it as RGB") from None


def shorter_side(image: Image.Image, size: int) -> Image.Image:
    """The picture with its shorter side at `size`."""
    shown = [min(max(round(side * size / min(image.size)), 1), MAX_ASPECT * size) for side in image.size]
    return image.resize((shown[0], shown[1]), Image.Resampling.BICUBIC)


def pixels(image: Image.Image) -> Tensor:
    """(3, H, W) uint8."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _opened(
    source: str | Path | bytes | BinaryIO,
    what: str,
    name: str,
    max_pixels: int | None = None,
    formats: tuple[str, ...] = FORMATS,
) -> Image.Image:
    """The file with its header read, and found to be of a size that fits into memory."""
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    if isinstance(source, (str, Path)):
        source = regular(source, what)
    elif isinstance(source, bytes):
        source = BytesIO(source)
    elif not hasattr(source, "read"):
        raise ValueError(f"a picture is {_KINDS}, not {shown(source)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit warns; ours refuses
            image = Image.open(source, formats=formats)
    except UnidentifiedImageError:
        told = f"the {what} is damaged or incomplete, or in none of the formats {', '.join(formats)}"
        raise FileError(f"{name}: {told}", "damaged") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{name}: the {what} is too large, it has more than {limit} pixels") from None
    except _DAMAGED as error:
        raise FileError(f"{name}: the {what} is damaged or incomplete ({_said(error)})", "damaged") from None
    if image.width * image.height > limit:
        image.close()
        raise ValueError(f"{name}: too large a {what}, {image.width} × {image.height}; at most {limit} pixels")
    return image


def _on_white(image: Image.Image) -> Image.Image:
    """Piece by piece, since whole copies of a large picture would fill the memory."""
    ground = Image.new("RGB", image.size, "white")
    for top in range(0, image.height, 512):
        piece = image.crop((0, top, image.width, min(top + 512, image.height))).convert("RGBA")
        ground.paste(piece, (0, top), piece)
    return ground


def _name(source: object) -> str:
    if isinstance(source, (str, Path)):
        return str(source)
    return str(getattr(source, "name", "the file"))


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
