"""Learning only a part of a network: frozen modules, and low-rank updates of attention projections (LoRA)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils import parametrize

from trainer.module_patterns import check_patterns, lies_under
from xdecoder.config import Config, ConfigError

_ORIGINAL = ".parametrizations.weight.original"
_UPDATE = ".parametrizations.weight.0."


class LoraConfig(Config):
    """Low-rank updates of the projections of all attentions; everything else keeps its weights (Hu et al., 2022)."""

    rank: int = Field(8, gt=0)
    """Rank of each update."""
    alpha: float = Field(16.0, gt=0)
    """An update counts alpha / rank times."""
    modules: tuple[str, ...] = ("*",)
    """Where attention is adapted: module names or patterns, such as [decoder, language]."""
    learn: tuple[str, ...] = ()
    """Modules that learn in full beside the updates, such as [decoder.heads]."""


class LowRank(nn.Module):
    """A weight (m, n) plus scale · up · down, of which `up` (m, rank) begins at zero: at first nothing is changed.

    It is a parametrisation of the weight itself. Here query, key and value share one projection that attention reads row by
    row, so an adapter around the layer, as peft wraps it, would be passed by.
    """

    scale: Tensor

    def __init__(self, weight: Tensor, config: LoraConfig) -> None:
        super().__init__()
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], config.rank))
        self.down = nn.Parameter(weight.new_empty(config.rank, weight.shape[1]))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)
        # Kept with the weights, so that a state can be merged without its settings.
        self.register_buffer("scale", torch.tensor(config.alpha / config.rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        """weight: (outputs, inputs) → the same shape, with the update added."""
        return weight + self.scale * (self.up @ self.down)


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Let all parameters under these modules keep their values; raises ConfigError for a name that fits nothing."""
    check_patterns(model, patterns, "trainer.freeze")
    for name, parameter in model.named_parameters():
        if any(lies_under(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"trainer.freeze: {', '.join(patterns)} leaves nothing that could learn")


def adapt(model: nn.Module, config: LoraConfig) -> None:
    """Freeze the network and give its attention projections low-rank updates.

    Raises:
        ConfigError: for a name that fits nothing, or modules without attention.
    """
    check_patterns(model, config.modules, "trainer.lora.modules")
    check_patterns(model, config.learn, "trainer.lora.learn")
    chosen = [
        projection
        for name, projection in attention_projections(model)
        if any(lies_under(name, pattern) for pattern in config.modules)
    ]
    if not chosen:
        raise ConfigError(f"trainer.lora.modules: there is no attention below {', '.join(config.modules)}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(lies_under(name, pattern) for pattern in config.learn))
    for projection in chosen:
        # `unsafe` spares a trial run, whose dtype check would also refuse a network on the meta device.
        parametrize.register_parametrization(projection, "weight", LowRank(projection.weight, config), unsafe=True)


def attention_projections(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """The linear layers that make up the network's attentions, by name."""
    for name, module in model.named_modules():
        if type(module).__name__.endswith("Attention"):
            for leaf, child in module.named_children():
                if isinstance(child, nn.Linear):
                    yield f"{name}.{leaf}", child


def merged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A network's weights with the low-rank updates added in, in shape and name as a network without updates has them."""
    plain: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.endswith(_ORIGINAL):
            layer = name.removesuffix(_ORIGINAL)
            up, down, scale = (state[f"{layer}{_UPDATE}{part}"] for part in ("up", "down", "scale"))
            plain[f"{layer}.weight"] = value + scale * (up @ down)
        elif _UPDATE not in name:
            plain[name] = value
    return plain
