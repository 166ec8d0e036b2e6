"""Multi-scale deformable transformer over three maps: the pixel decoder of Mask2Former (Cheng et al., 2022)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from xdecoder.config import Config
from xdecoder.layers import FeedForward, initialise_transformer, sine_positions
from xdecoder.ops.deformable import deformable_attention
from xdecoder.ops.linear import Linear
from xdecoder.pixel_decoders.fpn import GROUPS, ConvNorm

LEVELS = 3


class DeformableConfig(Config):
    """Deformable pixel decoder; the defaults are the published model's."""

    name: Literal["deformable"] = "deformable"
    width: int = Field(512, gt=0)
    """Channels of every map it makes."""
    layers: int = Field(6, ge=0)
    """Transformer layers over the maps of strides 32, 16 and 8."""
    heads: int = Field(8, gt=0)
    points: int = Field(4, gt=0)
    """Places at which a head reads each map."""
    hidden: int = Field(1024, gt=0)
    """Inner width of the transformer's feed-forward."""

    @model_validator(mode="after")
    def _divisible(self) -> DeformableConfig:
        for key, divisor in (("the groups of its norms", GROUPS), ("heads", self.heads)):
            if self.width % divisor:
                raise ValueError(f"width ({self.width}) must be a multiple of {key} ({divisor})")
        return self

    def build(self, widths: Sequence[int]) -> DeformablePixelDecoder:
        """widths: channels of the backbone's four maps, fine to coarse."""
        return DeformablePixelDecoder(self, widths)


class DeformablePixelDecoder(nn.Module):
    """Backbone maps (strides 4, 8, 16, 32) → (mask features of stride 4, maps of strides 32, 16, 8), all `width` channels."""

    def __init__(self, config: DeformableConfig, widths: Sequence[int]) -> None:
        super().__init__()
        width = config.width
        self.input_proj = nn.ModuleList(ConvNorm(inputs, width, kernel=1, bias=True) for inputs in widths[:0:-1])
        self.level_embedding = nn.Parameter(torch.empty(LEVELS, width))
        self.encoder = nn.ModuleList(DeformableLayer(config) for _ in range(config.layers))
        # Lists of one level each, named as the feature pyramid's, of which they are the finest.
        self.laterals = nn.ModuleList([ConvNorm(widths[0], width, kernel=1)])
        self.outputs = nn.ModuleList([ConvNorm(width, width, kernel=3)])
        self.mask_features = nn.Conv2d(width, width, 1)
        self._initialise()

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """maps: the backbone's four, (B, C_s, H/s, W/s) for s = 4, 8, 16, 32.

        Returns:
            Mask features (B, width, H/4, W/4), and maps (B, width, H/s, W/s) for s = 32, 16, 8.
        """
        # Sampling places need full precision: half a pixel of a long side is lost in 16 bits.
        with torch.autocast(maps[0].device.type, enabled=False):
            pyramid = self._encode([proj(x.float()) for proj, x in zip(self.input_proj, maps[:0:-1], strict=True)])
        finest = self.laterals[0](maps[0])
        finest = finest + F.interpolate(pyramid[-1], size=finest.shape[-2:], mode="bilinear").to(finest.dtype)
        return self.mask_features(F.relu(self.outputs[0](finest))), tuple(x.to(maps[0].dtype) for x in pyramid)

    def sample_precisely(self) -> None:
        """Keep the transformer in full precision, whatever type the rest is kept in."""
        for part in (self.input_proj, self.encoder):
            part.float()

    def _encode(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """maps: (B, C, h, w), coarse to fine; the same after the transformer."""
        shapes = [(x.shape[-2], x.shape[-1]) for x in maps]
        device = maps[0].device
        tokens = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)  # (B, sum of h·w, C)
        positions = torch.cat(
            [
                sine_positions(*shape, tokens.shape[-1], device).flatten(2).transpose(1, 2) + level
                for shape, level in zip(shapes, self.level_embedding, strict=True)
            ],
            dim=1,
        )
        centres = torch.cat([pixel_centres(*shape, device) for shape in shapes])
        for layer in self.encoder:
            tokens = layer(tokens, positions, centres, shapes)
        parts = tokens.split([height * width for height, width in shapes], dim=1)
        return tuple(part.transpose(1, 2).unflatten(2, shape) for part, shape in zip(parts, shapes, strict=True))

    def _initialise(self) -> None:
        initialise_transformer(self.encoder)
        for layer in self.encoder:
            assert isinstance(layer, DeformableLayer)
            layer.attention.initialise_places()
        nn.init.normal_(self.level_embedding)
        for convolution in (m for m in self.modules() if isinstance(m, nn.Conv2d)):
            nn.init.kaiming_uniform_(convolution.weight, a=1)
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)


class DeformableLayer(nn.Module):
    """Deformable self-attention and feed-forward, normed after each residual; positions only guide where it looks."""

    def __init__(self, config: DeformableConfig) -> None:
        super().__init__()
        self.attention = DeformableAttention(config.width, config.heads, config.points)
        self.norm1 = nn.LayerNorm(config.width)
        self.feed_forward = FeedForward(config.width, config.hidden)
        self.norm2 = nn.LayerNorm(config.width)

    def forward(self, x: Tensor, positions: Tensor, centres: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
        """x, positions: (B, N, C), the tokens of all maps; centres: (N, 2), their (x, y) in 0…1; shapes: (h, w) of each map."""
        x = self.norm1(x + self.attention(x + positions, x, centres, shapes))
        return self.norm2(x + self.feed_forward(x))


class DeformableAttention(nn.Module):
    """Each head of each token reads a few places of every map, chosen by the token (Zhu et al., 2021)."""

    def __init__(self, width: int, heads: int, points: int) -> None:
        super().__init__()
        self.heads, self.points = heads, points
        self.sampling_offsets = Linear(width, heads * LEVELS * points * 2)
        self.attention_weights = Linear(width, heads * LEVELS * points)
        self.value_proj = Linear(width, width)
        self.output_proj = Linear(width, width)

    def forward(self, query: Tensor, x: Tensor, centres: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
        """query, x: (B, N, C), the tokens of all maps; centres: (N, 2), their (x, y) in 0…1; shapes: (h, w) of each map."""
        values = self.value_proj(x).unflatten(-1, (self.heads, -1))
        offsets = self.sampling_offsets(query).unflatten(-1, (self.heads, LEVELS, self.points, 2))
        weights = self.attention_weights(query).unflatten(-1, (self.heads, LEVELS * self.points)).softmax(dim=-1)
        sizes = torch.tensor([(w, h) for h, w in shapes], device=x.device, dtype=offsets.dtype)  # offsets are in pixels
        places = centres[:, None, None, None] + offsets / sizes[:, None]
        return self.output_proj(deformable_attention(values, shapes, places, weights.unflatten(-1, (LEVELS, self.points))))

    def initialise_places(self) -> None:
        """Head h looks at angle 2πh/heads, its point k at k + 1 pixels along the longer axis; all count the same."""
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        rose = torch.stack((angles.cos(), angles.sin()), dim=1)
        rose = rose / rose.abs().amax(dim=1, keepdim=True)  # (heads, 2)
        reach = torch.arange(1, self.points + 1)[:, None]
        with torch.no_grad():
            bias = self.sampling_offsets.bias.unflatten(0, (self.heads, LEVELS, self.points, 2))
            bias.copy_((rose[:, None, None] * reach).expand_as(bias))
        for weights in (self.sampling_offsets.weight, self.attention_weights.weight, self.attention_weights.bias):
            nn.init.zeros_(weights)


def pixel_centres(height: int, width: int, device: torch.device) -> Tensor:
    """(x, y) of every pixel's centre, row by row, in 0…1 over the map: (height · width, 2)."""
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)
