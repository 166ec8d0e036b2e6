"""AdamW with the published parameter groups, and the learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from trainer.module_patterns import check_patterns, lies_under
from xdecoder.config import Config

NORMS = (
    nn.modules.batchnorm._NormBase,  # batch and instance norms of all dimensions
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
)


class MultiStep(Config):
    """Falls by `factor` at each milestone (the published schedule)."""

    name: Literal["multistep"] = "multistep"
    milestones: tuple[float, ...] = (0.88889, 0.96296)
    """Fractions of the training's steps."""
    factor: float = Field(0.1, gt=0)

    def scale(self, step: int, steps: int) -> float:
        passed: int = sum(math.floor(fraction * steps) <= step for fraction in self.milestones)
        return self.factor**passed


class Cosine(Config):
    """Falls along half a cosine."""

    name: Literal["cosine"] = "cosine"
    final: float = Field(0.0, ge=0)
    """Fraction of the learning rate that is left at the end."""

    def scale(self, step: int, steps: int) -> float:
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))


class Constant(Config):
    """Stays as it is."""

    name: Literal["constant"] = "constant"

    def scale(self, step: int, steps: int) -> float:
        return 1.0


Schedule = Annotated[MultiStep | Cosine | Constant, Field(discriminator="name")]


def learning_rate_scale(schedule: MultiStep | Cosine | Constant, step: int, steps: int, warmup_steps: int) -> float:
    """What the learning rate of the step (from 0) is multiplied with: the schedule times a linear warm-up."""
    warmup = min((step + 1) / warmup_steps, 1.0) if warmup_steps else 1.0
    return warmup * schedule.scale(step, steps)


def build_schedule(
    optimizer: torch.optim.Optimizer, schedule: MultiStep | Cosine | Constant, steps: int, warmup_steps: int
) -> LambdaLR:
    """The schedule at work on `optimizer`; step it once per optimiser step."""
    return LambdaLR(optimizer, lambda step: learning_rate_scale(schedule, step, steps, warmup_steps))


def build_optimizer(
    model: nn.Module, learning_rate: float, weight_decay: float, lr_multipliers: Mapping[str, float]
) -> torch.optim.AdamW:
    """AdamW over the model's trainable parameters, in the groups of `parameter_groups`."""
    groups = parameter_groups(model, learning_rate, weight_decay, lr_multipliers)
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    return torch.optim.AdamW(groups, lr=learning_rate, fused=devices <= {"cpu", "cuda"})


def parameter_groups(
    model: nn.Module, learning_rate: float, weight_decay: float, lr_multipliers: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Trainable parameters, one group for each learning rate and weight decay.

    Norms, biases, embeddings and everything one-dimensional are not decayed. The published code meant the same, but looked
    for biases in module names and overlooked the text encoder's norms.

    Args:
        lr_multipliers: module name or pattern (see `trainer.module_patterns`) → factor of the learning rate for all below it;
            the longest one that matches counts.

    Raises:
        ConfigError: for a name under which no parameter lies.
    """
    check_patterns(model, lr_multipliers, "trainer.lr_multipliers")
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen or not parameter.requires_grad:
                continue
            seen.add(id(parameter))
            name = f"{prefix}.{leaf}" if prefix else leaf
            decay = weight_decay if _decays(module, leaf, parameter) else 0.0
            groups.setdefault((learning_rate * _multiplier(name, lr_multipliers), decay), []).append(parameter)
    return [{"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()]


def _decays(module: nn.Module, leaf: str, parameter: Tensor) -> bool:
    # Tables kept as bare parameters (positions, queries) are known by their name only.
    is_table = isinstance(module, nn.Embedding) or "embedding" in leaf
    return parameter.ndim > 1 and not is_table and not leaf.endswith("bias") and not isinstance(module, NORMS)


def _multiplier(name: str, multipliers: Mapping[str, float]) -> float:
    keys = [key for key in multipliers if lies_under(name, key)]
    return multipliers[max(keys, key=len)] if keys else 1.0
