"""Segment Anything's vision transformer (Kirillov et al., 2023), whose one map a neck of four branches turns into a pyramid."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from xdecoder.config import Config
from xdecoder.ops.linear import Linear

PATCH = 16


class SamConfig(Config):
    """The plain transformer with local windows; the defaults are SAM-B behind SEEM."""

    name: Literal["sam"] = "sam"
    width: int = 768
    """Channels of every token (SAM-L: 1024)."""
    heads: int = 12
    """Attention heads (SAM-L: 16)."""
    depth: int = 12
    """Blocks (SAM-L: 24)."""
    everywhere: tuple[int, ...] = (2, 5, 8, 11)
    """Blocks that attend to the whole image; the others attend within windows (SAM-L: 5, 11, 17, 23)."""
    window: int = 14
    """Side of a window, in patches."""
    side: int = 1024
    """Side of the square image that it reads; positions are learnt for this size alone."""
    mlp_ratio: float = 4.0

    @model_validator(mode="after")
    def _whole_patches(self) -> SamConfig:
        if self.side % (2 * PATCH):
            raise ValueError(f"side must be a multiple of {2 * PATCH}, not {self.side}")
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) cannot be split among {self.heads} heads")
        return self

    @property
    def widths(self) -> tuple[int, int, int, int]:
        return 128, 256, 512, 1024

    @property
    def multiple(self) -> int:
        """Padded inputs are multiples of this."""
        return self.side

    def build(self) -> Sam:
        return Sam(self)


class Sam(nn.Module):
    """Images (B, 3, side, side) → four maps of strides 4, 8, 16, 32 with `config.widths` channels."""

    paths = 0  # it has no branches that an image may skip

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        self.side, patches = config.side, config.side // PATCH
        self.stem = nn.ModuleDict({"proj": nn.Conv2d(3, config.width, PATCH, PATCH)})
        self.position_embedding = nn.Parameter(torch.empty(1, patches, patches, config.width))
        self.blocks = nn.ModuleList(
            SamBlock(config, patches if number in config.everywhere else config.window) for number in range(config.depth)
        )
        self.neck = nn.ModuleList(_branches(config.width, config.widths))
        nn.init.trunc_normal_(self.position_embedding, std=0.02)
        self.apply(_initialise)

    def forward(self, images: Tensor, drawn: Tensor | None = None) -> tuple[Tensor, ...]:
        """Images (B, 3, side, side) as four maps (B, widths[i], side / stride, side / stride).

        Raises:
            ValueError: for images of another size.
        """
        if tuple(images.shape[-2:]) != (self.side, self.side):
            height, width = images.shape[-2:]
            raise ValueError(
                f"this backbone reads images of {self.side} x {self.side} pixels, not {width} x {height}; "
                f"resize them to a longer side of at most {self.side}"
            )
        x = self.stem["proj"](images).permute(0, 2, 3, 1) + self.position_embedding  # (B, h, w, C) from here on
        for block in self.blocks:
            x = block(x)
        x = x.permute(0, 3, 1, 2)
        return tuple(branch(x) for branch in self.neck)


class SamBlock(nn.Module):
    """Attention within windows of `size` patches, then an MLP, each behind a norm; (B, h, w, C) in and out."""

    def __init__(self, config: SamConfig, size: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6)
        self.attention = RelativeAttention(config.width, config.heads, size)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6)
        hidden = int(config.width * config.mlp_ratio)
        self.mlp = nn.ModuleDict({"fc1": Linear(config.width, hidden), "fc2": Linear(hidden, config.width)})

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) in and out."""
        x = x + self._attend(self.norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))

    def _attend(self, x: Tensor) -> Tensor:
        """Windows at the lower and right edge are filled up with zeros, which are attended to like any patch."""
        size, (batch, height, width, channels) = self.attention.size, x.shape
        down, right = -height % size, -width % size
        rows, columns = (height + down) // size, (width + right) // size
        windows = F.pad(x, (0, 0, 0, right, 0, down)).view(batch, rows, size, columns, size, channels)
        attended = self.attention(windows.transpose(2, 3).reshape(-1, size, size, channels))
        attended = attended.view(batch, rows, columns, size, size, channels).transpose(2, 3)
        return attended.reshape(batch, height + down, width + right, channels)[:, :height, :width]


class RelativeAttention(nn.Module):
    """Multi-head attention among the patches of a square, (N, size, size, C) in and out, with learnt relative positions.

    A row's and a column's offset add to the logit their dot product with the query. Both sums are made part of the one product
    of queries and keys: the query is extended by its dot products with every row and column, the key by ones at its own. So
    no table of all pairs of patches, 800 MB for an image, is ever made.
    """

    def __init__(self, width: int, heads: int, size: int) -> None:
        super().__init__()
        self.heads, self.size = heads, size
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)
        self.row_offsets = nn.Parameter(torch.zeros(2 * size - 1, width // heads))
        self.column_offsets = nn.Parameter(torch.zeros(2 * size - 1, width // heads))

    def forward(self, x: Tensor) -> Tensor:
        """(N, size, size, C) in and out."""
        size = self.size
        queries, keys, values = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 4, 1, 2, 5)  # (N, M, h, w, c)
        steps = torch.arange(size, device=x.device)
        between = steps[:, None] - steps + size - 1  # (query, key)
        by_row = torch.einsum("nmhwc,hkc->nmhwk", queries, self.row_offsets[between])
        by_column = torch.einsum("nmhwc,wkc->nmhwk", queries, self.column_offsets[between])
        scaled = queries * queries.shape[-1] ** -0.5
        ones = torch.eye(size, device=x.device, dtype=x.dtype)
        own_row = ones[:, None].expand(*keys.shape[:4], size)
        own_column = ones.expand(*keys.shape[:4], size)
        mixed = F.scaled_dot_product_attention(
            torch.cat((scaled, by_row, by_column), dim=-1).flatten(2, 3),
            torch.cat((keys, own_row, own_column), dim=-1).flatten(2, 3),
            F.pad(values, (0, 2 * size)).flatten(2, 3),  # of one width with the keys, as fused kernels ask
            scale=1.0,
        )
        return self.proj(mixed[..., : values.shape[-1]].transpose(1, 2).reshape(x.shape))


def _branches(width: int, widths: tuple[int, int, int, int]) -> list[nn.Sequential]:
    """What makes maps of strides 4, 8, 16 and 32 of the one of stride 16; every norm is over a whole map."""
    middle = max(256, width // 2)
    below = max(1024, 2 * width)
    up, down = (lambda a, b: nn.ConvTranspose2d(a, b, 2, 2)), nn.Conv2d(width, below, 2, 2)
    fine, finer, coarse, coarser = widths
    return [
        nn.Sequential(
            up(width, middle), _norm(middle), nn.GELU(),
            up(middle, middle // 2), _norm(middle // 2), nn.Conv2d(middle // 2, fine, 1), _norm(fine), nn.GELU(),
        ),
        nn.Sequential(up(width, middle), _norm(middle), nn.Conv2d(middle, finer, 1), _norm(finer), nn.GELU()),
        nn.Sequential(nn.Conv2d(width, coarse, 1), _norm(coarse), nn.GELU()),
        nn.Sequential(down, _norm(below), nn.Conv2d(below, coarser, 1), _norm(coarser), nn.GELU()),
    ]  # fmt: skip


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(1, channels)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
