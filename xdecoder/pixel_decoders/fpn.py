"""Feature pyramid with a transformer on its coarsest level: the pixel decoder of all published X-Decoder models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from pydantic import field_validator
from torch import Tensor, nn

from xdecoder.config import Config
from xdecoder.layers import Attention, FeedForward, initialise_transformer, sine_positions
from xdecoder.ops.winograd import Convolution

GROUPS = 32


class FpnConfig(Config):
    """Feature pyramid; the defaults are the published model's."""

    name: Literal["fpn"] = "fpn"
    width: int = 512
    """Channels of every map it makes."""
    layers: int = 6
    """Transformer layers on the coarsest map."""
    heads: int = 8
    hidden: int = 2048
    """Inner width of the transformer's feed-forward."""
    separable: bool = False
    """Make each 3 × 3 convolution one of single channels and a 1 × 1 behind it: an eighth of the work, for small networks, in
    which these convolutions cost more than all else."""

    @field_validator("width")
    @classmethod
    def _divisible(cls, width: int) -> int:
        if width % GROUPS:
            raise ValueError(f"must be a multiple of {GROUPS}, the groups of its norms")
        return width

    def build(self, widths: Sequence[int]) -> FpnPixelDecoder:
        """widths: channels of the backbone's four maps, fine to coarse."""
        return FpnPixelDecoder(self, widths)


class FpnPixelDecoder(nn.Module):
    """Backbone maps (strides 4, 8, 16, 32) → (mask features of stride 4, maps of strides 32, 16, 8), all `width` channels."""

    def __init__(self, config: FpnConfig, widths: Sequence[int]) -> None:
        super().__init__()
        width = config.width
        self.input_proj = nn.Conv2d(widths[-1], width, 1)
        self.encoder = nn.ModuleList(EncoderLayer(width, config.heads, config.hidden) for _ in range(config.layers))
        self.laterals = nn.ModuleList(ConvNorm(inputs, width, kernel=1) for inputs in widths[:-1])
        self.outputs = nn.ModuleList(ConvNorm(width, width, kernel=3, separable=config.separable) for _ in widths)
        self.mask_features = _convolution(width, width, True, config.separable)
        initialise_transformer(self.encoder)
        for convolution in (m for m in self.modules() if isinstance(m, nn.Conv2d)):
            nn.init.kaiming_uniform_(convolution.weight, a=1)
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """maps: the backbone's four, (B, C_s, H/s, W/s) for s = 4, 8, 16, 32.

        Returns:
            Mask features (B, width, H/4, W/4), and maps (B, width, H/s, W/s) for s = 32, 16, 8.
        """
        x = F.relu(self.outputs[-1](self._encode(self.input_proj(maps[-1]))), inplace=True)
        pyramid = [x]
        for fine, lateral, output in zip(maps[-2::-1], reversed(self.laterals), self.outputs[-2::-1], strict=True):
            x = lateral(fine).add_(F.interpolate(x, size=fine.shape[-2:], mode="nearest"))
            assert isinstance(output, ConvNorm)
            x = output.conv(x)  # frees the sum, which is as large as anything here
            x = F.relu(output.norm(x), inplace=True)
            pyramid.append(x)
        return self.mask_features(x), tuple(pyramid[:3])

    def _encode(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        positions = sine_positions(height, width, x.shape[1], x.device).flatten(2).transpose(1, 2).to(x.dtype)
        tokens = x.flatten(2).transpose(1, 2)
        for layer in self.encoder:
            tokens = layer(tokens, positions)
        return tokens.transpose(1, 2).unflatten(2, (height, width))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, normed after each residual; positions go to queries and keys only."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, hidden)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """x: (B, N, C); positions: (1, N, C) → (B, N, C)."""
        placed = x + positions
        x = self.norm1(x + self.attention(placed, placed, x))
        return self.norm2(x + self.feed_forward(x))


def _convolution(inputs: int, outputs: int, bias: bool, separable: bool) -> nn.Module:
    """A 3 × 3 convolution that keeps the size; `separable`: of each channel by itself, then of channels at each pixel."""
    if not separable:
        return Convolution(inputs, outputs, bias)
    spatial = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
    return nn.Sequential(spatial, nn.Conv2d(inputs, outputs, 1, bias=bias))


class ConvNorm(nn.Module):
    """A 1 × 1 or 3 × 3 convolution, then GroupNorm of 32 groups."""

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool = False, separable: bool = False) -> None:
        super().__init__()
        three = kernel == 3
        self.conv = _convolution(inputs, outputs, bias, separable) if three else nn.Conv2d(inputs, outputs, kernel, bias=bias)
        self.norm = nn.GroupNorm(GROUPS, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) → (B, outputs, H, W)."""
        return self.norm(self.conv(x))
