"""Plain vision transformers of timm as backbones: DINOv2, DINOv3, SigLIP 2, CLIP and their like.

They give one map of stride 16, of which a small pyramid makes four, as ViTDet does (Li et al. 2022, section 3). With
`trainer.freeze: [backbone.encoder]` the pyramid alone learns, and language and concepts stay what the encoder brings along.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from xdecoder.backbones.timm import normalisation, read_weights, renormalised, unknown
from xdecoder.config import Config

STRIDE = 16  # of the map that the pyramid is made of, whatever the patches' size


class VitConfig(Config):
    """A plain vision transformer from timm, with a pyramid behind it."""

    name: Literal["vit"] = "vit"
    model: str
    """timm's name of the network, such as "vit_small_patch16_dinov3.lvd1689m"; it must take pictures of any size."""
    pretrained: bool = False
    """Start from timm's own weights, which it downloads once."""
    checkpoint: Path | None = None
    """Start from a file of this network's weights under timm's names; instead of `pretrained`."""
    drop_last: int = Field(0, ge=0)
    """Leave out so many of the last blocks: those of networks that were taught whole pictures say less of places."""

    @model_validator(mode="after")
    def _is_plain(self) -> VitConfig:
        if self.pretrained and self.checkpoint is not None:
            raise ValueError("pretrained and checkpoint both name weights to start from; give one of them")
        encoder = _outline(self.model)
        if self.drop_last >= len(encoder.blocks):
            raise ValueError(f"drop_last is {self.drop_last}, but {self.model!r} has {len(encoder.blocks)} blocks")
        return self

    @property
    def widths(self) -> tuple[int, int, int, int]:
        width = int(_outline(self.model).embed_dim)
        return width // 4, width // 2, width, width

    def build(self) -> VitBackbone:
        return VitBackbone(self)


class VitBackbone(nn.Module):
    """Pictures (B, 3, H, W) → four maps of strides 4, 8, 16, 32 with `config.widths` channels.

    Pictures come normalised with ImageNet's mean and deviation; the encoder sees them as it was trained to. One whose patches
    are not of 16 pixels sees them resized, so that it has as many patches as one with these would have.

    Raises:
        ValueError: for a checkpoint that cannot be read or belongs to another network.
    """

    paths = 0  # timm's networks draw what they skip from torch's own generator

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        given = {} if config.checkpoint is None else {"state_dict": read_weights(config.checkpoint, config.model)}
        overlay = {"pretrained_cfg_overlay": given} if given else {}
        self.encoder = _create(config.model, pretrained=config.pretrained or bool(given), **overlay)
        self.mean, self.std = normalisation(config.model)
        self.patch = int(self.encoder.patch_embed.patch_size[0])
        self.block = len(self.encoder.blocks) - 1 - config.drop_last
        fine, half, width, _ = config.widths
        self.to_8 = nn.ConvTranspose2d(width, half, kernel_size=2, stride=2)
        self.to_4 = nn.Sequential(
            nn.ConvTranspose2d(width, half, kernel_size=2, stride=2),
            nn.GroupNorm(1, half),
            nn.GELU(),
            nn.ConvTranspose2d(half, fine, kernel_size=2, stride=2),
        )

    def forward(self, images: Tensor, drawn: Tensor | None = None) -> tuple[Tensor, ...]:
        """images: (B, 3, H, W), H and W multiples of 32 → four maps (B, C, H/s, W/s), s = 4, 8, 16, 32; `drawn` is not used."""
        images = renormalised(images, self.mean, self.std)
        if self.patch != STRIDE:
            size = [side // STRIDE * self.patch for side in images.shape[-2:]]
            images = F.interpolate(images, size=size, mode="bilinear", antialias=True)
        (x,) = self.encoder.forward_intermediates(
            images, indices=[self.block], norm=True, intermediates_only=True, output_fmt="NCHW"
        )
        return self.to_4(x), self.to_8(x), x, F.max_pool2d(x, kernel_size=2)


def _create(name: str, **options: Any) -> Any:
    import timm

    return timm.create_model(name, num_classes=0, dynamic_img_size=True, **options)


@lru_cache(maxsize=16)
def _outline(name: str) -> Any:
    """The encoder without numbers; raises ValueError if it is not a plain transformer that takes any size."""
    import timm

    if not timm.is_model(name):
        raise ValueError(unknown(name))
    try:
        with torch.device("meta"):
            encoder = _create(name)
        plain = len(encoder.blocks) and encoder.patch_embed.patch_size and encoder.embed_dim
    except (AttributeError, TypeError, RuntimeError, ValueError):
        plain = False
    if not plain or not hasattr(encoder, "forward_intermediates"):
        raise ValueError(f"model {name!r} is no plain vision transformer that takes pictures of any size; try name: timm")
    return encoder
