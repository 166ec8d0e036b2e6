from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from trainer.optim import Constant, Cosine, MultiStep, build_optimizer, build_schedule, learning_rate_scale, parameter_groups
from xdecoder.config import ConfigError

MULTIPLIERS = {"backbone": 0.1, "language": 0.1}


class OwnNorm(nn.LayerNorm):
    """A text encoder's own kind of norm, which the published rule overlooked."""


class NetworkSource(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(1, 4))
        self.language = nn.ModuleDict({"words": nn.Embedding(5, 4), "norm": OwnNorm(4), "out": nn.Linear(4, 4)})
        self.language.out.weight2 = nn.Parameter(torch.ones(2, 2))
        self.language.position_embedding = nn.Parameter(torch.zeros(7, 4))
        self.backbone_proj = nn.Parameter(torch.zeros(4, 4))
        self.logit_scale = nn.Parameter(torch.ones(()))
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.tied = self.language.words


def settings_by_name(model: nn.Module, **changes: object) -> dict[str, tuple[float, float]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    arguments = {"learning_rate": 1.0, "weight_decay": 0.05, "lr_multipliers": MULTIPLIERS, **changes}
    groups = parameter_groups(model, **arguments)  # type: ignore[arg-type]
    assert len({(group["lr"], group["weight_decay"]) for group in groups}) == len(groups), "groups must be merged"
    found = [(names[id(p)], (group["lr"], group["weight_decay"])) for group in groups for p in group["params"]]
    assert len(found) == len(dict(found)), "a parameter stands in two groups"
    return dict(found)


def test_rates_and_decay_follow_the_rules() -> None:
    assert settings_by_name(NetworkSource()) == {
        "backbone.0.weight": (0.1, 0.05),
        "backbone.0.bias": (0.1, 0.0),
        "backbone.1.weight": (0.1, 0.0),
        "backbone.1.bias": (0.1, 0.0),
        "language.words.weight": (0.1, 0.0),
        "language.norm.weight": (0.1, 0.0),
        "language.norm.bias": (0.1, 0.0),
        "language.out.weight": (0.1, 0.05),
        "language.out.bias": (0.1, 0.0),
        "language.out.weight2": (0.1, 0.05),
        "language.position_embedding": (0.1, 0.0),
        "backbone_proj": (1.0, 0.05),  # not part of the backbone
        "logit_scale": (1.0, 0.0),
    }


def test_the_longest_matching_name_counts() -> None:
    found = settings_by_name(NetworkSource(), lr_multipliers={"language": 0.1, "language.out": 0.5})
    assert found["language.out.weight"][0] == 0.5
    assert found["language.norm.weight"][0] == 0.1
    assert found["backbone.0.weight"][0] == 1.0


def test_a_pattern_names_several_modules() -> None:
    found = settings_by_name(NetworkSource(), lr_multipliers={"backbone.[1-9]": 0.1, "*.out": 0.5})
    assert [found[f"backbone.{i}.bias"][0] for i in (0, 1)] == [1.0, 0.1]
    assert found["language.out.bias"][0] == 0.5


def test_a_name_without_parameters_is_refused() -> None:
    with pytest.raises(ConfigError, match="'bakbone'; did you mean 'backbone'"):
        parameter_groups(NetworkSource(), 1.0, 0.05, {"bakbone": 0.1})
    with pytest.raises(ConfigError, match="no parameter lies under 'back'"):
        parameter_groups(NetworkSource(), 1.0, 0.05, {"back": 0.1})


def test_the_published_milestones() -> None:
    schedule, steps = MultiStep(), 162_500
    for step, scale in ((0, 1.0), (144_443, 1.0), (144_444, 0.1), (156_480, 0.1), (156_481, 0.01)):
        assert learning_rate_scale(schedule, step, steps, 0) == pytest.approx(scale), step


def test_cosine_and_constant() -> None:
    assert [Cosine().scale(step, 100) for step in (0, 50, 100)] == pytest.approx([1.0, 0.5, 0.0])
    assert Cosine(final=0.2).scale(100, 100) == pytest.approx(0.2)
    assert Constant().scale(77, 100) == 1.0


def test_warm_up_rises_linearly_and_multiplies_the_schedule() -> None:
    rates = [learning_rate_scale(Cosine(), step, 100, 4) for step in range(6)]
    plain = [0.5 * (1 + math.cos(math.pi * step / 100)) for step in range(6)]
    assert rates == pytest.approx([p * w for p, w in zip(plain, (0.25, 0.5, 0.75, 1, 1, 1), strict=True)])


def test_the_schedule_scales_every_group() -> None:
    optimizer = build_optimizer(NetworkSource(), 1.0, 0.05, MULTIPLIERS)
    schedule = build_schedule(optimizer, MultiStep(milestones=(0.5,), factor=0.1), steps=4, warmup_steps=0)
    before = [group["lr"] for group in optimizer.param_groups]
    for _ in range(2):
        optimizer.step()
        schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1 * rate for rate in before])
    assert set(before) == {1.0, 0.1}


def test_a_raised_flag_leaves_the_update_out() -> None:
    """What the trainer relies on to leave out bad steps on a GPU without waiting for it."""
    model = nn.Linear(2, 2)
    optimizer = build_optimizer(model, 1.0, 0.05, {})
    model(torch.ones(1, 2)).sum().backward()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer.found_inf = torch.ones(())  # type: ignore[attr-defined]
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    optimizer.found_inf = torch.zeros(())  # type: ignore[attr-defined]
    optimizer.step()
    assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
