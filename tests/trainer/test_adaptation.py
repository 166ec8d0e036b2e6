from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.tiny import tiny_batch, tiny_model, tiny_tasks
from trainer.adaptation import LoraConfig, adapt, attention_projections, freeze, merged
from trainer.module_patterns import lies_under
from trainer.optim import build_optimizer
from xdecoder.config import ConfigError
from xdecoder.model import XDecoder


def step(model: XDecoder) -> None:
    """One update on all tasks."""
    optimizer = build_optimizer(model, 0.01, 0.0, {})
    torch.manual_seed(0)
    tasks = tiny_tasks().build(["segmentation", "referring", "captioning"])
    torch.stack(list(model.train().losses(tasks, tiny_batch()).values())).sum().backward()
    optimizer.step()
    model.eval()


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in after if name not in before or not torch.equal(before[name], after[name])}


def copy(model: XDecoder) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@torch.no_grad()
def answer(model: XDecoder) -> Tensor:
    return model.decode(model.encode(tiny_batch().images))[-1]["object"].semantic


@pytest.mark.parametrize(
    ("name", "pattern", "fits"),
    [
        ("backbone.stages.0.1.norm", "backbone", True),
        ("backbone_proj", "backbone", False),
        ("backbone.stages.0", "backbone.stages.[01]", True),
        ("backbone.stages.2", "backbone.stages.[01]", False),
        ("decoder.layers.3.cross_attention.in_proj", "*.cross_attention", True),
        ("decoder.layers.3.self_attention.in_proj", "*.cross_attention", False),
        ("logit_scale", "*", True),
        ("decoder", "decoder.layers", False),
    ],
)
def test_names_and_patterns(name: str, pattern: str, fits: bool) -> None:
    assert lies_under(name, pattern) is fits


def test_frozen_modules_stay_as_they_are() -> None:
    model = tiny_model()
    before = copy(model)
    freeze(model, ["backbone", "language.blocks.*"])
    step(model)
    moved = changed(before, model.state_dict())
    assert not any(name.startswith(("backbone.", "language.blocks.")) for name in moved)
    assert {"backbone_proj"} <= {name for name, p in model.named_parameters() if p.requires_grad}
    assert {"decoder.query_content.weight", "pixel_decoder.mask_features.weight", "language.projection"} <= moved


def test_a_wrong_name_to_freeze_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"trainer.freeze: no parameter lies under 'bakbone'; did you mean 'backbone'\?"):
        freeze(tiny_model(), ["bakbone"])
    with pytest.raises(ConfigError, match=r"trainer.freeze: \* leaves nothing"):
        freeze(tiny_model(), ["*"])


def test_lora_starts_from_the_same_answers_and_changes_only_its_own() -> None:
    model = tiny_model()
    plain, expected = copy(model), answer(model)
    adapt(model, LoraConfig(rank=2, learn=("decoder.heads",)))
    assert torch.equal(answer(model), expected)
    before = copy(model)
    step(model)
    moved = changed(before, model.state_dict())
    heads = {name for name in moved if name.startswith("decoder.heads.")}
    assert heads
    assert all(name.endswith((".up", ".down")) for name in moved - heads)
    for part in ("pixel_decoder", "decoder", "language"):
        assert any(name.startswith(part) and name.endswith("weight.0.up") for name in moved), part
    assert set(merged(model.state_dict())) == set(plain)


def test_merged_weights_answer_alike() -> None:
    model = tiny_model()
    adapt(model, LoraConfig(rank=2))
    step(model)
    step(model)
    ordinary = tiny_model(seed=1)
    ordinary.load_state_dict(merged(model.state_dict()))
    torch.testing.assert_close(answer(ordinary), answer(model))
    assert not torch.allclose(answer(ordinary), answer(tiny_model()), atol=1e-3), "two updates must show"


def test_only_the_named_modules_are_adapted() -> None:
    model = tiny_model()
    adapt(model, LoraConfig(rank=2, modules=("*.cross_attention",)))
    adapted = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(adapted) == 4 * 2 * 2  # layers, projections, up and down
    assert all(".cross_attention." in name for name in adapted)


def test_lora_where_there_is_no_attention_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no attention below backbone"):
        adapt(tiny_model(), LoraConfig(modules=("backbone",)))
    with pytest.raises(ConfigError, match=r"trainer.lora.modules: .*'decoders'; did you mean 'decoder'"):
        adapt(tiny_model(), LoraConfig(modules=("decoders",)))


def test_every_attention_of_the_network_is_known() -> None:
    names = {name for name, _ in attention_projections(tiny_model())}
    assert len(names) == 2 + 4 * 4 + 2  # pixel decoder, decoder layers with two attentions, text encoder
