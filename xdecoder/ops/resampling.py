"""Resizing of maps that lie in memory channels last, as Winograd's convolution leaves them; values differ by rounding only.

Along an axis, resizing is a product with a matrix that is zero but for a band. torch's own antialiased way wants channels
first, hence a copy, and does not use the processor's units of products. Here a few rows of the result are made at a time, so
that what lies between the two axes stays in the cache.

It is taken on a CPU, where no gradient is asked for: mask features of 512 channels come to the sizes of the three maps that the
decoder reads in a fifth of the time (`benchmarks/products.py`; AMD Zen 4).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_ROWS = 16  # of the map that are read at a time, and how many more the filter needs
_COLUMNS = 64

Part = tuple[slice, slice, Tensor]  # places of the result, the places that are read for them, and with which weights


def resize(maps: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Maps (B, C, H, W) at another size (h, w); mode: bicubic with antialiasing, bilinear without."""
    channels_last = maps.stride(1) == 1 and not maps.is_contiguous()
    taken = channels_last and maps.device.type == "cpu" and not (torch.is_grad_enabled() or torch.compiler.is_compiling())
    return _by_products(maps, size, mode) if taken else _plain(maps.contiguous(), size, mode)


def _plain(maps: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    return F.interpolate(maps, size=size, mode=mode, antialias=mode == "bicubic")


def _by_products(maps: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """The same from and to maps that lie channels last."""
    batch, channels, height, width = maps.shape
    result = maps.new_empty(batch, *size, channels)
    down, across = _parts(height, size[0], mode, _ROWS, maps.dtype), _parts(width, size[1], mode, _COLUMNS, maps.dtype)
    for source, target in zip(maps.permute(0, 2, 3, 1), result, strict=True):
        for rows, seen_rows, weights in down:
            low = (weights @ source[seen_rows].flatten(1)).view(-1, width, channels)
            for columns, seen_columns, others in across:
                target[rows, columns] = others @ low[:, seen_columns]
    return result.permute(0, 3, 1, 2)


def _parts(length: int, output: int, mode: str, at_once: int, dtype: torch.dtype) -> list[Part]:
    """An axis of the result, in parts that are made of about so many places of the map each."""
    matrix = _plain(torch.eye(length, dtype=dtype)[:, None, None], (1, output), mode)[:, 0, 0].T.contiguous()
    step = max(at_once * output // length, 1)
    starts = range(0, output, step)
    bands = [band(matrix[start : start + step]) for start in starts]
    return [
        (slice(start, start + step), seen, matrix[start : start + step, seen].contiguous())
        for start, seen in zip(starts, bands, strict=True)
    ]


def band(matrix: Tensor) -> slice:
    """Columns of a matrix (N, M) that are not all zero, and those between them; on a GPU, which would be waited for, all."""
    if matrix.device.type != "cpu":
        return slice(None)
    columns = matrix.any(dim=0).nonzero()
    return slice(int(columns[0]), int(columns[-1]) + 1)
