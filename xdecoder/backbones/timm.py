"""Any convolutional or hierarchical network of the timm library as a backbone.

timm is imported where it is used: that takes a second, which others should not wait.
"""

from __future__ import annotations

import difflib
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import model_validator
from torch import Tensor, nn

from xdecoder.config import Config

STRIDES = (4, 8, 16, 32)


class TimmConfig(Config):
    """A feature pyramid from timm (https://huggingface.co/docs/timm)."""

    name: Literal["timm"] = "timm"
    model: str
    """timm's name of the network, such as "resnet50" or "convnext_tiny"; its maps must include strides 4, 8, 16 and 32."""
    pretrained: bool = False
    """Start from timm's own weights, which it downloads once."""
    checkpoint: Path | None = None
    """Start from a file of this network's weights under timm's names; instead of `pretrained`."""

    @model_validator(mode="after")
    def _has_a_pyramid(self) -> TimmConfig:
        if self.pretrained and self.checkpoint is not None:
            raise ValueError("pretrained and checkpoint both name weights to start from; give one of them")
        _pyramid(self.model)
        return self

    @property
    def widths(self) -> tuple[int, int, int, int]:
        return _pyramid(self.model)[1]

    def build(self) -> TimmBackbone:
        return TimmBackbone(self)


class TimmBackbone(nn.Module):
    """Pictures (B, 3, H, W) → four maps of strides 4, 8, 16, 32 with `config.widths` channels.

    Pictures come normalised with ImageNet's mean and deviation, whatever the network was trained with.

    Raises:
        ValueError: for a checkpoint that cannot be read or belongs to another network.
    """

    def __init__(self, config: TimmConfig) -> None:
        super().__init__()
        self.levels, self.widths = _pyramid(config.model)
        weights = {} if config.checkpoint is None else {"state_dict": _read(config.checkpoint, config.model)}
        self.network = _create(
            config.model,
            pretrained=config.pretrained or bool(weights),
            **({"pretrained_cfg_overlay": weights} if weights else {}),
        )

    paths = 0  # timm's networks draw what they skip from torch's own generator

    def forward(self, images: Tensor, drawn: Tensor | None = None) -> tuple[Tensor, ...]:
        """images: (B, 3, H, W) → four maps (B, C, H/s, W/s) of strides s = 4, 8, 16, 32; `drawn` is not used."""
        every = self.network(images)
        maps = tuple(every[level] for level in self.levels)
        return tuple(x.permute(0, 3, 1, 2) for x in maps) if _channels_last(self.network) else maps


@lru_cache(maxsize=64)
def _pyramid(name: str) -> tuple[tuple[int, ...], tuple[int, int, int, int]]:
    """Which of a network's maps have the four strides, and their channels; raises ValueError if it is no such network."""
    import timm

    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=1)
        hint = f"did you mean {close[0]!r}?" if close else "timm.list_models() lists those it has"
        raise ValueError(f"model {name!r} is not known to timm {timm.__version__}; {hint}")
    try:
        with torch.device("meta"):
            network = _create(name).eval()
        strides, widths = network.feature_info.reduction(), network.feature_info.channels()
    except (RuntimeError, AttributeError, AssertionError, KeyError, TypeError, ValueError):
        raise ValueError(f"model {name!r} gives no feature maps in timm; choose one with maps of strides {STRIDES}") from None
    if not set(STRIDES) <= set(strides):
        found = ", ".join(map(str, strides))
        raise ValueError(f"model {name!r} has maps of strides {found}; expected 4, 8, 16 and 32 among them")
    levels = tuple(strides.index(stride) for stride in STRIDES)
    if not _takes_any_size(network, levels):
        raise ValueError(f"model {name!r} takes only pictures of certain sizes; expected one for all multiples of 32")
    first, second, third, fourth = (widths[level] for level in levels)
    return levels, (first, second, third, fourth)


def _takes_any_size(network: nn.Module, levels: tuple[int, ...]) -> bool:
    """Whether a picture of no particular size gives maps of the right sizes; costs nothing, since no number is computed."""
    try:
        with torch.device("meta"), torch.no_grad():
            maps = network(torch.empty(1, 3, 96, 160))
    except (RuntimeError, AssertionError, ValueError):
        return False
    first = 1 if _channels_last(network) else 2
    return all(
        tuple(maps[level].shape[first : first + 2]) == (96 // stride, 160 // stride)
        for level, stride in zip(levels, STRIDES, strict=True)
    )


def _channels_last(network: nn.Module) -> bool:
    return getattr(network, "output_fmt", "NCHW") == "NHWC"


def _create(name: str, **options: Any) -> Any:
    """The network with maps as its output; those with a fixed picture size are opened to any, where timm can do so."""
    import timm

    try:
        return timm.create_model(name, features_only=True, strict_img_size=False, **options)
    except TypeError:
        return timm.create_model(name, features_only=True, **options)


def _read(path: Path, name: str) -> dict[str, Tensor]:
    import timm

    from xdecoder.checkpoint import read

    content = read(path)
    weights = content.get("state_dict", content.get("model", content))
    with torch.device("meta"):
        network: Any = timm.create_model(name)
    classifier = network.get_classifier()
    unneeded = {id(parameter) for parameter in classifier.parameters()} if isinstance(classifier, nn.Module) else set()
    needed = {key: value.shape for key, value in network.named_parameters() if id(value) not in unneeded}
    absent = [key for key, shape in needed.items() if getattr(weights.get(key), "shape", None) != shape]
    if absent:
        raise ValueError(
            f"{path}: not weights of timm's {name!r} ({len(absent)} of {len(needed)} are missing or of another shape, "
            f"for example {absent[0]!r})"
        )
    return weights
