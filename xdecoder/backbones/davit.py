"""DaViT: attention among the positions of a window, then among channels of the whole map (Ding et al., 2022)."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from xdecoder.config import Config
from xdecoder.layers import DropPath
from xdecoder.ops.linear import Linear

STRIDES = (4, 2, 2, 2)


class DavitConfig(Config):
    """DaViT with four stages; the defaults are X-Decoder's DaViT-d3."""

    name: Literal["davit"] = "davit"
    width: int = Field(128, gt=0)
    """Channels of the first stage; each later stage doubles them."""
    depths: tuple[int, int, int, int] = (1, 1, 9, 1)
    """Pairs of a spatial and a channel block per stage."""
    kernels: tuple[int, int, int, int] = (7, 2, 2, 2)
    """Kernels of the convolutions between stages, whose strides are 4, 2, 2, 2 (DaViT-d5: 7, 3, 3, 3)."""
    head_width: int = Field(32, gt=0)
    """Channels of one attention head, and of one group of channels."""
    window: int = Field(7, gt=0)
    """Side of the squares within which positions see each other."""
    mlp_ratio: float = 4.0
    drop_path: float = 0.3
    """Probability of dropping the last block's branches; grows linearly from 0."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> DavitConfig:
        if self.width % self.head_width:
            raise ValueError(f"width ({self.width}) must be a multiple of head_width ({self.head_width})")
        if any(kernel < stride for kernel, stride in zip(self.kernels, STRIDES, strict=True)):
            raise ValueError(f"kernels {self.kernels} must not be smaller than the strides {STRIDES}, or pixels are skipped")
        return self

    @property
    def widths(self) -> tuple[int, int, int, int]:
        return self.width, 2 * self.width, 4 * self.width, 8 * self.width

    def build(self) -> Davit:
        return Davit(self)


class Davit(nn.Module):
    """Pictures (B, 3, H, W) → four maps of strides 4, 8, 16, 32 with `config.widths` channels, not normed."""

    def __init__(self, config: DavitConfig) -> None:
        super().__init__()
        total = 2 * sum(config.depths)
        rates = iter([config.drop_path * i / max(total - 1, 1) for i in range(total)])
        inputs = (3, *config.widths[:-1])
        self.embeddings = nn.ModuleList(
            Embedding(*sizes, norm_first=i > 0)
            for i, sizes in enumerate(zip(inputs, config.widths, config.kernels, STRIDES, strict=True))
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(BlockPair(width, config, next(rates), next(rates)) for _ in range(depth))
            for width, depth in zip(config.widths, config.depths, strict=True)
        )
        self.paths = 4 * sum(config.depths)  # branches that a picture may skip
        self.apply(_initialise)

    def forward(self, images: Tensor, drawn: Tensor | None = None) -> tuple[Tensor, ...]:
        """drawn: (B, paths) uniform numbers that decide which branches each picture skips in training; None: drawn here."""
        rng = iter([None] * self.paths if drawn is None else drawn.unbind(1))
        x = images.permute(0, 2, 3, 1)  # (B, h, w, C) from here on
        maps = []
        for embedding, stage in zip(self.embeddings, self.stages, strict=True):
            x = embedding(x)
            for pair in stage.children():
                x = pair(x, next(rng), next(rng), next(rng), next(rng))
            maps.append(x.permute(0, 3, 1, 2))
        return tuple(maps)


class Embedding(nn.Module):
    """A strided convolution with LayerNorm before it (of its input) or after it; (B, h, w, C) in and out."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, norm_first: bool) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.proj = nn.Conv2d(inputs, outputs, kernel, stride, padding=(kernel - 1) // 2)
        self.norm = nn.LayerNorm(inputs if norm_first else outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, inputs) → (B, ⌈h/stride⌉, ⌈w/stride⌉, outputs)."""
        return _convolve(self.proj, self.norm(x)) if self.norm_first else self.norm(_convolve(self.proj, x))


class BlockPair(nn.Module):
    """Attention in space, then among channels."""

    def __init__(self, width: int, config: DavitConfig, spatial_drop: float, channel_drop: float) -> None:
        super().__init__()
        heads, hidden = width // config.head_width, int(width * config.mlp_ratio)
        self.spatial = Block(width, hidden, WindowAttention(width, heads, config.window), spatial_drop)
        self.channel = Block(width, hidden, ChannelAttention(width, heads), channel_drop)

    def forward(self, x: Tensor, *drawn: Tensor | None) -> Tensor:
        """(B, h, w, C) → the same shape.

        Args:
            drawn: four times (B,) uniform numbers that decide whether a branch is skipped; none: drawn here.
        """
        return self.channel(self.spatial(x, *drawn[:2]), *drawn[2:])


class Block(nn.Module):
    """Attention and an MLP, each normed first and added, each after a depth-wise residual; (B, h, w, C) in and out."""

    def __init__(self, width: int, hidden: int, attention: nn.Module, drop_path: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm1 = nn.LayerNorm(width)
        self.attention = attention
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"fc1": Linear(width, hidden), "fc2": Linear(hidden, width)})
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, first: Tensor | None = None, second: Tensor | None = None) -> Tensor:
        """(B, h, w, C) → the same shape; first, second: (B,) uniform numbers that decide whether each branch is skipped."""
        x = x + _convolve(self.conv1, x)
        x = x + self.drop_path(self.attention(self.norm1(x)), first)
        x = x + _convolve(self.conv2, x)
        return x + self.drop_path(self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x)))), second)


class WindowAttention(nn.Module):
    """Attention among the positions of each window; (B, h, w, C) in and out."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) → the same shape, for any h and w: windows at the border are padded."""
        batch, height, width, channels = x.shape
        side = self.window
        # Padding takes part in attention as zeros, unmasked: weights were trained so.
        x = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
        rows, columns = x.shape[1] // side, x.shape[2] // side
        windows = x.view(batch, rows, side, columns, side, channels).transpose(2, 3).reshape(-1, side * side, channels)
        q, k, v = self.qkv(windows).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B·windows, heads, n, d)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        mixed = self.proj(mixed).view(batch, rows, columns, side, side, channels).transpose(2, 3)
        return mixed.reshape(batch, rows * side, columns * side, channels)[:, :height, :width]


class ChannelAttention(nn.Module):
    """Attention among the channels of each group, over all positions; (B, h, w, C) in and out."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) → the same shape."""
        q, k, v = self.qkv(x).flatten(1, 2).unflatten(-1, (3, self.groups, -1)).permute(2, 0, 3, 4, 1)  # (B, groups, d, h·w)
        # A channel is a token of h·w numbers. Scaled before the product, whose sum over many pixels could overflow in 16 bits.
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)
        return self.proj((scores.softmax(dim=-1) @ v).flatten(1, 2).transpose(1, 2).unflatten(1, x.shape[1:3]))


def _convolve(convolution: nn.Module, x: Tensor) -> Tensor:
    return convolution(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        initial = nn.init.trunc_normal_ if isinstance(module, nn.Linear) else nn.init.normal_
        initial(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
