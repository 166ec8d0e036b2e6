"""Attention, feed-forward, MLP and sine positions: the parts that every transformer here is made of."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xdecoder.ops.linear import Linear, linear


class Attention(nn.Module):
    """Multi-head attention with one fused input projection.

    Args:
        width: size of the tokens C.
        heads: number of heads; must divide the width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"attention of width {width} cannot be split among {heads} heads")
        self.heads = heads
        self.in_proj = Linear(width, 3 * width)
        self.out_proj = Linear(width, width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None = None) -> Tensor:
        """query: (B, N, C); key, value: (B, M, C); visible: bool, broadcastable to (B, N, M), True = may be looked at."""
        return self.read(query, *self.project(key, value), visible)

    def project(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """What `read` needs of key and value (B, M, C), each (B, heads, M, C / heads)."""
        width = self.out_proj.in_features
        _, weight_k, weight_v = self.in_proj.weight.split(width)
        _, bias_k, bias_v = self.in_proj.bias.split(width)
        return self._heads(linear(key, weight_k, bias_k)), self._heads(linear(value, weight_v, bias_v))

    def read(self, query: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None = None) -> Tensor:
        """What queries read.

        Args:
            query: (B·R, N, C), R sets of queries for each of B rows that `project` gave.
            visible: (1 or B·R, N, M), or for each head (1, heads, N, M); bool, or numbers that are added to the attention.
        """
        batch, width = keys.shape[0], self.out_proj.in_features  # len() would freeze the batch of an exported network
        q = linear(query, self.in_proj.weight[:width], self.in_proj.bias[:width])
        if visible is not None and visible.dim() == 3:
            if visible.shape[0] == query.shape[0] > batch:
                visible = visible.reshape(batch, -1, visible.shape[-1])
            visible = visible[:, None]
        q = self._heads(q.reshape(batch, -1, width))
        mixed = F.scaled_dot_product_attention(q, keys, values, attn_mask=visible)
        return self.out_proj(mixed.transpose(1, 2).reshape(query.shape))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between, C → hidden → C."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = Linear(width, hidden)
        self.linear2 = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(…, C) → (…, C)."""
        return self.linear2(F.relu(self.linear1(x)))


class Mlp(nn.Module):
    """Linear layers with ReLU between them; `sizes` lists the widths from input to output."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """(…, first size) → (…, last size)."""
        *hidden, last = self.layers
        for layer in hidden:
            x = F.relu(layer(x))
        return last(x)


class DropPath(nn.Module):
    """Stochastic depth: in training a sample's branch is dropped with `probability`, the others are scaled up."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor, drawn: Tensor | None = None) -> Tensor:
        """drawn: (B,) uniform numbers that decide; None: they are drawn here."""
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        drawn = torch.rand(x.shape[0], device=x.device) if drawn is None else drawn
        return x * (drawn < keep).to(x.dtype).view(-1, *[1] * (x.dim() - 1)) / keep


def sine_positions(height: int, width: int, channels: int, device: torch.device | str = "cpu") -> Tensor:
    """Two-dimensional sine positions, (1, channels, height, width): first half from y, second half from x.

    Coordinates run from 1 and are scaled to 2π at the last row or column (DETR's normalised variant, temperature 10 000).
    """
    half = channels // 2
    exponent = 2 * (torch.arange(half, device=device) // 2) / half
    frequencies = 10_000.0**-exponent

    def waves(length: int) -> Tensor:
        steps = torch.arange(1, length + 1, device=device, dtype=torch.float32)
        angles = (steps / (length + 1e-6) * 2 * math.pi)[:, None] * frequencies
        return torch.stack((angles[:, 0::2].sin(), angles[:, 1::2].cos()), dim=2).flatten(1)  # (length, half)

    y = waves(height)[:, None].expand(height, width, half)
    x = waves(width)[None].expand(height, width, half)
    return torch.cat((y, x), dim=2).permute(2, 0, 1)[None]


def initialise_transformer(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases for every linear layer below `module`."""
    for child in module.modules():
        if isinstance(child, nn.Linear):
            nn.init.xavier_uniform_(child.weight)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
