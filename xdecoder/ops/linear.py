"""A linear layer for few tokens, such as those by which captions are written, at the speed of the memory.

A product with one token, or with a handful, reads every weight once and hardly computes: what counts is how fast weights come.
CPU libraries read them with one thread and in small steps; as a batch of smaller products of the same rows they come two to
four times as fast. Values differ from the plain product's by rounding only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW = 8  # tokens up to which it is worth while
_PARTS = 8  # products into which one is cut


class Linear(nn.Linear):
    """As torch's, with `linear` for its product."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) → (…, out_features)."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x · weightᵀ + bias; x: (…, C), weight: (D, C), bias: (D,)."""
    if not _is_worthwhile(x, weight):
        return F.linear(x, weight, bias)
    outputs, width = weight.shape
    tokens = x.reshape(1, -1, width).transpose(1, 2).expand(_PARTS, -1, -1)
    rows = weight.view(_PARTS, -1, width)
    product = torch.bmm(rows, tokens) if bias is None else torch.baddbmm(bias.view(_PARTS, -1, 1), rows, tokens)
    return product.view(outputs, -1).T.reshape(*x.shape[:-1], outputs)


def _is_worthwhile(x: Tensor, weight: Tensor) -> bool:
    if torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype != torch.float32:
        return False
    # A compiled or exported graph serves any number of tokens, hence must not ask how many these are.
    if torch.compiler.is_compiling() or x.numel() > FEW * x.shape[-1]:
        return False
    return weight.shape[0] % _PARTS == 0 and weight.is_contiguous()
