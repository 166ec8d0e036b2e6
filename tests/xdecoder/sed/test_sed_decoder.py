"""The decoder in chunks computes what the plain one does; rejection keeps what it must."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder.sed import inference
from xdecoder.sed.decoder import Decoder, DecoderConfig
from xdecoder.sed.inference import ROOM, decode
from xdecoder.sed.rejection import first_scores, survivors

SMALL = DecoderConfig(width=16, widths=(16, 8, 8), skip_widths=(8, 4, 4), heads=2, kernel=5)
Inputs = tuple[Tensor, Tensor, list[Tensor]]


def inputs(batch: int, classes: int, height: int = 3, width: int = 4) -> Inputs:
    dense, text = torch.randn(batch, 12, height, width), F.normalize(torch.randn(classes, 5, 12), dim=-1)
    maps = [torch.randn(batch, 6, height * 2**i, width * 2**i) for i in (1, 2, 3)]
    return dense, text, maps


def decoder(config: DecoderConfig = SMALL) -> Decoder:
    return Decoder(config, 5, (6, 6, 6)).eval().requires_grad_(False)


@pytest.mark.parametrize("room", [ROOM, 0], ids=["kept", "computed again"])
@pytest.mark.parametrize("pooling", [1, 2])
@pytest.mark.parametrize("classes", [1, 3, 40])
def test_chunks_change_rounding_only(classes: int, pooling: int, room: int) -> None:
    module = decoder(SMALL.model_copy(update={"pooling": (pooling,) * 3}))
    dense, text, maps = inputs(2, classes)
    plain = module(dense, text, maps).final
    found = decode(module, dense, text, maps, room=room)
    assert torch.allclose(torch.stack([each.logits for each in found]), plain, atol=1e-5)
    assert all(each.history == () and each.alive.tolist() == list(range(classes)) for each in found)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 4)])
def test_first_scores_are_the_first_auxiliary_heads(size: tuple[int, int]) -> None:
    module = decoder()
    dense, text, maps = inputs(1, 7, *size)
    head = module.auxiliary_heads[0]
    assert isinstance(head, torch.nn.Conv2d)
    found = first_scores(F.normalize(dense, dim=1)[0], text, module.embed, head)
    assert torch.allclose(found, module(dense, text, maps).auxiliary[0][0], atol=1e-5)


def test_a_class_survives_that_is_among_the_best_of_one_place() -> None:
    scores = torch.tensor([[[5.0, 0.0]], [[4.0, 0.0]], [[3.0, 9.0]], [[2.0, 8.0]], [[1.0, 0.0]]])
    assert survivors(scores, 1).tolist() == [True, False, True, False, False]
    assert survivors(scores, 2).tolist() == [True, True, True, True, False]
    assert survivors(scores, 5).tolist() == [True] * 5
    assert survivors(scores, 50).tolist() == [True] * 5


def test_of_equal_classes_the_first_survive() -> None:
    assert survivors(torch.zeros(6, 2, 2), 2).tolist() == [True, True, False, False, False, False]


@pytest.mark.parametrize("room", [ROOM, 0], ids=["kept", "computed again"])
def test_rejection_is_the_plain_decoder_on_those_that_are_left(room: int) -> None:
    """At each stage the class attention sees those alive only, so the reference is written out stage by stage."""
    module = decoder()
    dense, text, maps = inputs(1, 30)
    (found,) = decode(module, dense, text, maps, 1, room)
    x, alive = (
        module.embed(
            (skip := inference.F.normalize(dense, dim=1).flatten(2).transpose(1, 2) @ text.transpose(1, 2))
            .transpose(1, 2)
            .unflatten(2, (3, 4))
        ),
        torch.arange(30),
    )
    skip = skip.transpose(1, 2).unflatten(2, (3, 4))
    for level, image_skip in enumerate(module.skips(maps)):
        kept = survivors(module.auxiliary_heads[level](x)[:, 0], 1)
        x, skip, alive = x[kept], skip[kept], alive[kept]
        assert found.history[level].tolist() == alive.tolist()
        skip = F.relu(module.cost_skips[level](skip))
        x = module.stages[level](x, image_skip.expand(len(x), -1, -1, -1), skip, 1, 1)
    assert torch.allclose(found.logits, module.head(x)[:, 0], atol=1e-5)
    assert 0 < len(alive) < 30
    probabilities = found.probabilities(30)
    assert torch.equal(probabilities[alive], found.logits.sigmoid())
    assert probabilities.count_nonzero(dim=(1, 2)).gt(0).sum() == len(alive)


def test_each_image_of_a_batch_rejects_for_itself() -> None:
    module = decoder()
    dense, text, maps = inputs(3, 30)
    together = decode(module, dense, text, maps, 1)
    assert len({tuple(each.alive.tolist()) for each in together}) > 1
    for i, found in enumerate(together):
        (alone,) = decode(module, dense[i : i + 1], text, [x[i : i + 1] for x in maps], 1)
        assert torch.equal(found.alive, alone.alive) and torch.allclose(found.logits, alone.logits, atol=1e-5)


def test_auxiliary_heads_train_themselves_only_and_skips_not_the_encoder() -> None:
    module = decoder().requires_grad_(True).train()
    dense, text, maps = inputs(2, 4)
    for x in (dense, *maps):
        x.requires_grad_(True)
    logits = module(dense, text, maps)
    for level, auxiliary in enumerate(logits.auxiliary):
        names = [name for name, p in module.named_parameters()]
        gradients = torch.autograd.grad(auxiliary.sum(), list(module.parameters()), allow_unused=True, retain_graph=True)
        reached = [name for name, gradient in zip(names, gradients, strict=True) if gradient is not None]
        assert reached == [f"auxiliary_heads.{level}.weight", f"auxiliary_heads.{level}.bias"]
    logits.final.sum().backward()
    assert dense.grad is not None and all(x.grad is None for x in maps)


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="kernel must be odd, not 4"):
        DecoderConfig(kernel=4)
    with pytest.raises(ValueError, match="cannot be split among 5 heads"):
        DecoderConfig(heads=5)
    with pytest.raises(ValueError, match=r"skip_widths\.0 \(128\) must lie between 1 and 127"):
        DecoderConfig(skip_widths=(128, 16, 8))
    with pytest.raises(ValueError, match="multiples of 16"):
        DecoderConfig(widths=(72, 32, 16))
