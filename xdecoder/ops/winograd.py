"""3 × 3 convolutions with a quarter of the multiplications (Lavin & Gray: Fast Algorithms for Convolutional Neural Networks).

Each 4 × 4 patch of the result is made of a 6 × 6 patch of the map: both, and the kernel, are transformed so that the
convolution becomes one product per place of the patch. In single precision, results differ by some 1e-5 of their deviation.

It is taken in prediction on a CPU, for float32 maps of 64 × 64 and more: those of 512 channels take 0.63 (64 × 64) to 0.49
(128 × 128) of the time of torch's own convolution (`benchmarks/products.py`; AMD Zen 4). On smaller ones, transforming the
kernel costs what the products save.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xdecoder.ops.linear import MANY, linear

SMALLEST = 64  # side of the maps from which on the transforms are worth their time

# The paper's F(4 × 4, 3 × 3): transforms of the map, of the kernel, and back.
_MAP = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_BACK = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


class Convolution(nn.Conv2d):
    """A 3 × 3 convolution of stride 1 that keeps the map's size.

    With `winograd` set, large maps on a CPU take the fast way when no gradient is asked for.
    """

    winograd = False

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, kernel_size=3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) → (B, outputs, H, W)."""
        fast = self.winograd and not torch.is_grad_enabled() and x.device.type == "cpu" and x.dtype == torch.float32
        # An exported graph serves all sizes, hence must not ask how large this one is.
        if fast and not torch.compiler.is_exporting() and min(x.shape[-2:]) >= SMALLEST:
            return convolve(x, self.weight, self.bias)
        return super().forward(x)


def use_winograd(module: nn.Module) -> None:
    """Let all such convolutions below `module` take the fast way."""
    for child in module.modules():
        if isinstance(child, Convolution):
            child.winograd = True


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x: (B, C, H, W); weight: (D, C, 3, 3). The result (B, D, H, W) lies in memory channels last."""
    batch, channels, height, width = x.shape
    outputs, down, across = weight.shape[0], -(-height // 4), -(-width // 4)
    to_map, to_kernel, back = (torch.tensor(rows, dtype=x.dtype) for rows in (_MAP, _KERNEL, _BACK))
    to_map, to_kernel, back = (torch.kron(one, one) for one in (to_map, to_kernel, back))  # both axes of a patch at once
    kernel = (to_kernel @ weight.permute(2, 3, 0, 1).reshape(9, -1)).view(36, outputs, channels)
    result = x.new_empty(batch, 4 * down, 4 * across, outputs)
    at_once = -(-MANY // across)  # rows of patches: enough for fast products, few enough for the processor's cache
    for b in range(batch):
        for top in range(0, down, at_once):
            rows = min(at_once, down - top)
            first, last = 4 * top - 1, 4 * (top + rows) + 1
            strip = x[b, :, max(first, 0) : last].permute(1, 2, 0)
            missing = (max(-first, 0), max(last - height, 0))
            strip = F.pad(strip, (0, 0, 1, 4 * across - width + 1, *missing))
            patches = strip.unfold(0, 6, 4).unfold(1, 6, 4)  # (rows, across, C, 6, 6)
            places = (to_map @ patches.permute(3, 4, 0, 1, 2).reshape(36, -1)).view(36, rows * across, channels)
            products = torch.stack([linear(*each) for each in zip(places, kernel, strict=True)])
            painted = (back @ products.view(36, -1)).view(4, 4, rows, across, outputs)
            result[b, 4 * top : 4 * (top + rows)].view(rows, 4, across, 4, outputs).copy_(painted.permute(2, 0, 3, 1, 4))
    if bias is not None:
        result += bias
    return result[:, :height, :width].permute(0, 3, 1, 2)
