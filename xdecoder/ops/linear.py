"""Products of float32 matrices on a CPU, in the way that is fastest for their size; values differ by rounding only.

- **Few numbers** (a caption's next word): the product reads every weight once and hardly computes, so what counts is how fast
  weights come. Libraries read them with one thread and in small steps; as a batch of smaller products of the same rows they
  come 1.4 to 2.2 times as fast.
- **Many tokens**: torch hands products to MKL, which on some processors (AMD's Zen 5) uses half of their width, and
  convolutions to oneDNN, which uses all of it (467 against 202 GFLOP/s on two cores). A product is a convolution of one place;
  it is taken where a measurement of some milliseconds, at the first such product of a process, finds it clearly faster. On
  Zen 4, whose units are as wide as MKL thinks, it would gain 0 to 15 %, and is left.

`benchmarks/products.py` shows both, and whether they still gain.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW = 3072  # numbers in all tokens up to which a batch of parts is worth while
MANY = 256  # tokens from which on a convolution may be: it lays out all weights anew
_PARTS = 8  # products into which one is cut
_GAIN = 1.35  # a processor has one of two widths; between these, noise does not decide
_ROUNDS = 5


class Linear(nn.Linear):
    """As torch's, with `linear` for its product."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) → (…, out_features)."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x · weightᵀ + bias; x: (…, C), weight: (D, C), bias: (D,)."""
    # A compiled or exported graph serves any number of tokens, hence must not ask how many these are.
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.compiler.is_compiling():
        return F.linear(x, weight, bias)
    if x.numel() <= FEW:
        if not torch.is_grad_enabled() and weight.shape[0] % _PARTS == 0 and weight.is_contiguous():
            return _in_parts(x, weight, bias)
    elif x.numel() >= MANY * x.shape[-1] and not torch.is_autocast_enabled("cpu") and convolutions_are_faster():
        return _as_convolution(x, weight, bias)
    return F.linear(x, weight, bias)


def _in_parts(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    outputs, width = weight.shape
    tokens = x.reshape(1, -1, width).transpose(1, 2).expand(_PARTS, -1, -1)
    rows = weight.view(_PARTS, -1, width)
    product = torch.bmm(rows, tokens) if bias is None else torch.baddbmm(bias.view(_PARTS, -1, 1), rows, tokens)
    return product.view(outputs, -1).T.reshape(*x.shape[:-1], outputs)


def _as_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    row = x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)  # an image of one row, channels last
    # The dilation changes nothing of a kernel of one place; without it, torch computes such ones by MKL on one thread.
    product = F.conv2d(row, weight[:, :, None, None], bias, dilation=2)
    return product.permute(0, 2, 3, 1).reshape(*x.shape[:-1], weight.shape[0])


def convolutions_are_faster() -> bool:
    """Whether this processor multiplies clearly faster by way of a convolution; measured once."""
    return bool(torch.backends.mkldnn.enabled) and _measured()


@cache
def _measured() -> bool:
    with torch.inference_mode(), torch.device("cpu"):
        x, weight = torch.ones(2 * MANY, 512), torch.ones(512, 512)
        return _ratio(partial(F.linear, x, weight), partial(_as_convolution, x, weight, None)) > _GAIN


def _ratio(slow: Callable[[], object], fast: Callable[[], object]) -> float:
    """How many times the time of `fast` `slow` takes: in turn, the best of some rounds behind one that is not counted."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_ROUNDS + 1):
        for work, taken in zip((slow, fast), times, strict=True):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return min(times[0][1:]) / min(times[1][1:])
