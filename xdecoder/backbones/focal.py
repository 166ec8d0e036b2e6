"""FocalNet: context is gathered by nested depth-wise convolutions and modulates each position (Yang et al., 2022)."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from xdecoder.config import Config
from xdecoder.layers import DropPath
from xdecoder.ops.linear import Linear, linear


class FocalConfig(Config):
    """FocalNet with four stages; the defaults are X-Decoder's Focal-T."""

    name: Literal["focal"] = "focal"
    width: int = 96
    """Channels of the first stage; each later stage doubles them."""
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    """Blocks per stage."""
    levels: int = 3
    """Nested contexts per modulation."""
    window: int = 3
    """Kernel of the first context; every further one is 2 larger."""
    depthwise: bool = True
    """True (Focal-T): 3x3 depth-wise residuals in each block, norms after the sums. False (Focal-L): norms on the branches."""
    mlp_ratio: float = 4.0
    layer_scale: float = 1e-4
    """Initial weight of the residual branches."""
    drop_path: float = 0.3
    """Probability of dropping the last block's branches; grows linearly from 0."""

    @model_validator(mode="after")
    def _odd_window(self) -> FocalConfig:
        if self.window % 2 == 0:
            raise ValueError(f"window must be odd, not {self.window}")
        return self

    @property
    def widths(self) -> tuple[int, int, int, int]:
        return self.width, 2 * self.width, 4 * self.width, 8 * self.width

    def build(self) -> FocalNet:
        return FocalNet(self)


class FocalNet(nn.Module):
    """Pictures (B, 3, H, W) → four maps of strides 4, 8, 16, 32 with `config.widths` channels."""

    def __init__(self, config: FocalConfig) -> None:
        super().__init__()
        widths, total = config.widths, sum(config.depths)
        rates = iter([config.drop_path * i / max(total - 1, 1) for i in range(total)])
        self.stem = Downsample(3, widths[0], kernel=7, stride=4, padding=3 if config.depthwise else 2)
        self.stages = nn.ModuleList(
            nn.ModuleList(FocalBlock(width, config, next(rates)) for _ in range(depth))
            for width, depth in zip(widths, config.depths, strict=True)
        )
        self.downsamples = nn.ModuleList(Downsample(a, b, kernel=3, stride=2, padding=1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.paths = 2 * total  # branches that a picture may skip
        self.apply(_initialise)

    def forward(self, images: Tensor, drawn: Tensor | None = None) -> tuple[Tensor, ...]:
        """drawn: (B, paths) uniform numbers that decide which branches each picture skips in training; None: drawn here."""
        rng = iter([None] * self.paths if drawn is None else drawn.unbind(1))
        x = self.stem(images.permute(0, 2, 3, 1))  # (B, h, w, C) from here on
        maps = []
        for i, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            if i:
                x = self.downsamples[i - 1](x)
            for block in stage.children():
                x = block(x, next(rng), next(rng))
            maps.append(norm(x).permute(0, 3, 1, 2))
        return tuple(maps)


class Downsample(nn.Module):
    """A strided convolution, then LayerNorm; (B, h, w, C) in and out."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inputs, outputs, kernel, stride, padding)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, inputs) → (B, ⌈h/stride⌉, ⌈w/stride⌉, outputs)."""
        return self.norm(self.proj(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class FocalBlock(nn.Module):
    """Focal modulation, then an MLP, each a scaled residual; (B, h, w, C) in and out."""

    def __init__(self, width: int, config: FocalConfig, drop_path: float) -> None:
        super().__init__()
        self.depthwise = config.depthwise
        if config.depthwise:
            self.dw1 = nn.Conv2d(width, width, 3, padding=1, groups=width)
            self.dw2 = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm1 = nn.LayerNorm(width)
        self.modulation = FocalModulation(width, config.levels, config.window)
        self.norm2 = nn.LayerNorm(width)
        hidden = int(width * config.mlp_ratio)
        self.mlp = nn.ModuleDict({"fc1": Linear(width, hidden), "fc2": Linear(hidden, width)})
        self.gamma1 = nn.Parameter(torch.full((width,), config.layer_scale))
        self.gamma2 = nn.Parameter(torch.full((width,), config.layer_scale))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, first: Tensor | None = None, second: Tensor | None = None) -> Tensor:
        """(B, h, w, C) → the same shape; first, second: (B,) uniform numbers that decide whether each branch is skipped."""
        if self.depthwise:
            x = x + _convolve(self.dw1, x)
            x = self.norm1(x + self.drop_path(self.gamma1 * self.modulation(x), first))
            x = x + _convolve(self.dw2, x)
            return self.norm2(x + self.drop_path(self.gamma2 * self._feed(x), second))
        x = x + self.drop_path(self.gamma1 * self.norm1(self.modulation(x)), first)
        return x + self.drop_path(self.gamma2 * self.norm2(self._feed(x)), second)

    def _feed(self, x: Tensor) -> Tensor:
        return self.mlp["fc2"](F.gelu(self.mlp["fc1"](x)))


class FocalModulation(nn.Module):
    """Query times gated sum of nested contexts and the global mean; (B, h, w, C) in and out."""

    def __init__(self, width: int, levels: int, window: int) -> None:
        super().__init__()
        self.width, self.levels = width, levels
        self.f = Linear(width, 2 * width + levels + 1)
        self.h = nn.Conv2d(width, width, 1)
        self.proj = Linear(width, width)
        self.contexts = nn.ModuleList(
            nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
            for kernel in range(window, window + 2 * levels, 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) → the same shape."""
        query, context, gates = self.f(x).split((self.width, self.width, self.levels + 1), dim=-1)
        modulator = torch.zeros_like(context)
        for level, convolution in enumerate(self.contexts):
            context = F.gelu(_convolve(convolution, context))
            modulator = modulator + context * gates[..., level, None]
        everywhere = F.gelu(context.mean(dim=(1, 2), keepdim=True))
        modulator = (modulator + everywhere * gates[..., self.levels, None]) / (self.levels + 1)
        mixed = linear(modulator, self.h.weight[:, :, 0, 0], self.h.bias)  # faster than the convolution it is
        return self.proj(query * mixed)


def _convolve(convolution: nn.Module, x: Tensor) -> Tensor:
    return convolution(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        # A modulation multiplies three projections; with a fixed small deviation a narrow network would begin without any.
        nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
        nn.init.zeros_(module.bias)
