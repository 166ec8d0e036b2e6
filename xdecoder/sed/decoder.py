"""The gradual fusion decoder: from a cost map to one logit for each class and pixel (sections 3.2 and 3.3 of SED's paper).

Every class is an image of its own whose channels are the templates; all classes share the weights and meet in the class
attention only. This file is the decoder as it is trained; `xdecoder.sed.inference` computes the same with less work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from xdecoder.config import Config
from xdecoder.ops.linear import Linear

STAGES = 3


class DecoderConfig(Config):
    """The decoder; the defaults are the published one, whatever the encoder."""

    width: int = Field(128, gt=0)
    """Channels into which the cost map is embedded."""
    widths: tuple[int, int, int] = (64, 32, 16)
    """Channels behind each stage; the resolution doubles with each."""
    skip_widths: tuple[int, int, int] = (32, 16, 8)
    """Channels of the encoder's features, and of the cost map's, that join each stage."""
    heads: int = Field(4, gt=0)
    """Heads of the class attention."""
    kernel: int = Field(9, gt=0)
    """Side of the depth-wise kernels; odd."""
    training_pooling: tuple[int, int, int] = (2, 2, 2)
    """Average pooling in front of each stage's class attention while training."""
    pooling: tuple[int, int, int] = (1, 1, 1)
    """The same in evaluation. No weight depends on it."""
    skips_teach: bool = False
    """Whether the encoder learns from the maps that join the stages too, and not from the cost map alone (published). One that
    is trained from scratch has to: at stride 32 small images say little."""

    @model_validator(mode="after")
    def _fits_together(self) -> DecoderConfig:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {self.kernel}")
        for stage, (inputs, skip) in enumerate(zip(self.inputs, self.skip_widths, strict=True)):
            if not 0 < skip < inputs:
                raise ValueError(
                    f"skip_widths.{stage} ({skip}) must lie between 1 and {inputs - 1}, the stage's input less one"
                )
            if inputs % self.heads:
                raise ValueError(f"a stage of {inputs} channels cannot be split among {self.heads} heads")
        for width in self.widths:
            if width % 16 and width > 16:
                raise ValueError(
                    f"widths must be multiples of 16 or less than 16, not {width}: they are normed in groups of 16"
                )
        return self

    @property
    def inputs(self) -> tuple[int, int, int]:
        """Channels in front of each stage."""
        return (self.width, *self.widths[:-1])


@dataclass(frozen=True)
class Logits:
    """What the decoder says of T classes; the auxiliary ones are there in training only."""

    final: Tensor  # (B, T, 8h, 8w), where the cost map is h × w
    auxiliary: tuple[Tensor, ...]  # (B, T, h, w), (B, T, 2h, 2w), (B, T, 4h, 4w)


def cost_map(dense: Tensor, text: Tensor) -> Tensor:
    """Cosines of every place with every class and template.

    dense: (B, C, h, w) image features, of any length; text: (T, P, C) unit vectors. Returns (B, T, P, h, w).
    """
    return torch.einsum("bchw,tpc->btphw", F.normalize(dense, dim=1), text)


class Decoder(nn.Module):
    """Cost map and skip features to logits.

    Args:
        config: its sizes.
        templates: how many templates P each class has; they are the cost map's channels.
        widths: channels of the encoder's maps of strides 16, 8 and 4.
    """

    def __init__(self, config: DecoderConfig, templates: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Conv2d(templates, config.width, kernel_size=7, padding=3)
        self.image_skips = nn.ModuleList(
            nn.Conv2d(width, skip, kernel_size=3, padding=1) for width, skip in zip(widths, config.skip_widths, strict=True)
        )
        self.cost_skips = nn.ModuleList(
            nn.ConvTranspose2d(inputs, skip, kernel_size=2, stride=2)
            for inputs, skip in zip((templates, *config.skip_widths[:-1]), config.skip_widths, strict=True)
        )
        self.stages = nn.ModuleList(
            Stage(inputs, outputs, skip, config)
            for inputs, outputs, skip in zip(config.inputs, config.widths, config.skip_widths, strict=True)
        )
        self.auxiliary_heads = nn.ModuleList(nn.Conv2d(width, 1, kernel_size=3, padding=1) for width in config.inputs)
        self.head = nn.Conv2d(config.widths[-1], 1, kernel_size=3, padding=1)

    @property
    def pooling(self) -> tuple[int, int, int]:
        return self.config.training_pooling if self.training else self.config.pooling

    def forward(self, dense: Tensor, text: Tensor, maps: Sequence[Tensor]) -> Logits:
        """Logits of all classes, each head's; the auxiliary heads train themselves only.

        Args:
            dense: (B, C, h, w) features in the space that images and texts share, of stride 32.
            text: (T, P, C) unit vectors of T classes in P templates.
            maps: the encoder's maps of strides 16, 8 and 4, (B, ·, 2h, 2w), (B, ·, 4h, 4w) and (B, ·, 8h, 8w).
        """
        batch, classes = dense.shape[0], text.shape[0]
        skip = cost_map(dense, text).flatten(0, 1)
        x = self.embed(skip)
        auxiliary = []
        for level, image_skip in enumerate(self.skips(maps)):
            auxiliary.append(self.auxiliary_heads[level](x.detach()).unflatten(0, (batch, classes))[:, :, 0])
            skip = F.relu(self.cost_skips[level](skip))
            image_skip = image_skip[:, None].expand(-1, classes, -1, -1, -1).flatten(0, 1)
            x = self.stages[level](x, image_skip, skip, batch, self.pooling[level])
        return Logits(self.head(x).unflatten(0, (batch, classes))[:, :, 0], tuple(auxiliary))

    def skips(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """What joins each stage of the encoder's maps (B, ·, h, w): (B, G, h, w)."""
        maps = maps if self.config.skips_teach else [x.detach() for x in maps]
        return [F.relu(project(x)) for project, x in zip(self.image_skips, maps, strict=True)]


class Stage(nn.Module):
    """One step of fusion: space, classes, then twice the resolution with the skip features."""

    def __init__(self, inputs: int, outputs: int, skip: int, config: DecoderConfig) -> None:
        super().__init__()
        groups = max(outputs // 16, 1)
        self.spatial = SpatialBlock(inputs, config.kernel)
        self.classes = ClassAttention(inputs, config.heads)
        self.up = nn.ConvTranspose2d(inputs, inputs - skip, kernel_size=2, stride=2)
        self.conv1 = nn.Conv2d(inputs + skip, outputs, kernel_size=3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(groups, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, outputs)

    def forward(self, x: Tensor, image_skip: Tensor, cost_skip: Tensor, batch: int, pooling: int) -> Tensor:
        """x: (B·T, C, h, w); image_skip and cost_skip: (B·T, G, 2h, 2w). Returns (B·T, D, 2h, 2w)."""
        x = self.classes(self.spatial(x), batch, pooling)
        x = torch.cat((self.up(x), image_skip, cost_skip), dim=1)
        x = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(x)))


class SpatialBlock(nn.Module):
    """ConvNeXt's block with a larger kernel (Liu et al. 2022): (N, C, h, w) to the same."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, kernel_size=kernel, padding=kernel // 2, groups=width)
        self.norm = ChannelNorm(width)
        self.linear1 = Linear(width, 4 * width)
        self.linear2 = Linear(4 * width, width)
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, h, w); the result has its shape."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.linear2(F.gelu(self.linear1(y)))
        return x + y.permute(0, 3, 1, 2)


class ChannelNorm(nn.Module):
    """Layer normalisation of the last axis. Its weights decay, unlike those of torch's norms: that is how SED was trained."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, C); the result has its shape."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, eps=1e-6)


class ClassAttention(nn.Module):
    """At each place, the classes attend to each other; they have no order."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.query, self.key, self.value = (Linear(width, width) for _ in range(3))
        self.norm2 = nn.LayerNorm(width)
        self.linear1 = Linear(width, 4 * width)
        self.linear2 = Linear(4 * width, width)

    def forward(self, x: Tensor, batch: int, pooling: int) -> Tensor:
        """x: (B·T, C, h, w). What the (pooled) branch starts from is added twice: the published weights were trained so."""
        small = F.avg_pool2d(x, pooling) if pooling > 1 else x
        tokens = small.unflatten(0, (batch, -1)).permute(0, 3, 4, 1, 2)  # (B, h, w, T, C)
        tokens = tokens + self.attend(self.norm1(tokens))
        tokens = tokens + self.linear2(F.relu(self.linear1(self.norm2(tokens))))
        small = tokens.permute(0, 3, 4, 1, 2).flatten(0, 1)
        if pooling > 1:
            small = F.interpolate(small, size=x.shape[-2:], mode="bilinear", align_corners=True)
        return x + small

    def attend(self, tokens: Tensor) -> Tensor:
        """Linear attention among normed tokens (…, T, C), in time linear in their number; without a projection behind it."""
        q, k, v = (
            part(tokens).unflatten(-1, (self.heads, -1)).transpose(-2, -3) for part in (self.query, self.key, self.value)
        )
        q, k = positive(q), positive(k)
        total = q @ k.sum(dim=-2).unsqueeze(-1)  # (…, heads, T, 1)
        mixed = q @ (k.transpose(-1, -2) @ v) / (total + EPSILON)
        return mixed.transpose(-2, -3).flatten(-2)


EPSILON = 1e-6


def positive(x: Tensor) -> Tensor:
    """The feature map of linear attention (Katharopoulos et al. 2020)."""
    return F.elu(x) + 1
