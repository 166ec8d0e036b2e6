"""Places in an image that somebody asks about: a mask, several masks, a box or a point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xdecoder.files import shown
from xdecoder.regions import Proposals

Mask = Tensor | np.ndarray
Place = Mask | Sequence[float]  # a mask, a box or a point


def is_batch(region: Any) -> bool:
    """Whether several masks (N, H, W) are meant."""
    return isinstance(region, (Tensor, np.ndarray)) and region.ndim == 3


def weights(proposals: Proposals, region: Place, image: Image.Image) -> Tensor:
    """How much each proposal says about a place, (1, N), or about each of M masks (M, N).

    Raises:
        ValueError: for what is no place, or one outside of the image.
    """
    if isinstance(region, (Tensor, np.ndarray)) and region.ndim >= 2:
        masks = [marked(mask, image) for mask in (region if is_batch(region) else [region])]
        if not masks:
            raise ValueError("a batch of masks must hold a mask")
        return proposals.weights(torch.stack(masks))
    try:
        numbers = [float(number) for number in region]
    except (TypeError, ValueError):
        numbers = []
    width, height = image.size
    if len(numbers) == 4 and 0 <= numbers[0] < numbers[2] <= width and 0 <= numbers[1] < numbers[3] <= height:
        x0, y0, x1, y1 = numbers
        return proposals.weights_of_box((x0 / width, y0 / height, x1 / width, y1 / height))
    if len(numbers) == 2 and 0 <= numbers[0] < width and 0 <= numbers[1] < height:
        return proposals.weights_of_point(numbers[0] / width, numbers[1] / height)
    raise ValueError(
        f"a place is a mask of the image's size, a box (x0, y0, x1, y1) or a point (x, y) inside of its {width} × {height} "
        f"pixels, not {shown(region)}"
    )


def marked(mask: Mask, image: Image.Image) -> Tensor:
    """The pixels that a mask marks, (H, W) bool; raises ValueError for one of another size or that marks none."""
    if not isinstance(mask, (Tensor, np.ndarray)) or (isinstance(mask, np.ndarray) and mask.dtype.kind not in "biuf"):
        raise ValueError(f"region must be an array or tensor of the picture's size, not {shown(mask)}")
    region = torch.as_tensor(mask).cpu()
    if region.shape != (image.height, image.width):
        raise ValueError(f"a region has the picture's size {(image.height, image.width)}, not {tuple(region.shape)}")
    if not (region > 0).any():
        raise ValueError("a region must hold a pixel of the picture, but this one marks none")
    return region > 0
