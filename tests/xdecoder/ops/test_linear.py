from collections.abc import Iterator
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F

from xdecoder.ops import linear as module
from xdecoder.ops.linear import MANY, Linear, linear

FEW = module.FEW // 24  # tokens


@pytest.fixture(params=[False, True], ids=["plain", "convolutions"])
def faster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Both kinds of processor."""
    monkeypatch.setattr(module, "convolutions_are_faster", lambda: request.param)
    return request.param


@pytest.mark.parametrize(
    "shape", [(24,), (1, 24), (1, 1, 24), (5, 24), (FEW, 24), (2, 3, 24), (FEW + 1, 24), (0, 24), (MANY, 24), (2, MANY, 24)]
)
@pytest.mark.parametrize("biased", [True, False])
def test_as_the_plain_product(shape, biased, faster):
    x, weight, bias = torch.randn(shape), torch.randn(16, 24), torch.randn(16) if biased else None
    with torch.inference_mode():
        torch.testing.assert_close(linear(x, weight, bias), F.linear(x, weight, bias), rtol=1e-5, atol=1e-5)


def test_a_slice_of_a_fused_projection(faster):
    weight = torch.randn(48, 24)
    for x in (torch.randn(1, 24), torch.randn(24, MANY).T):
        with torch.no_grad():
            torch.testing.assert_close(linear(x, weight[16:32]), F.linear(x, weight[16:32]), rtol=1e-5, atol=1e-5)


def test_gradients_are_the_plain_products(faster):
    x, weight, bias = torch.randn(2, MANY, 24), torch.randn(16, 24), torch.randn(16)
    wanted = torch.randn(2, MANY, 16)
    found = []
    for product in (linear, F.linear):
        leaves = [leaf.clone().requires_grad_() for leaf in (x, weight, bias)]
        found.append(torch.autograd.grad(product(*leaves), leaves, wanted))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("x", "weight", "way"),
    [
        (torch.ones(1, 24), torch.ones(16, 24), "parts"),
        (torch.ones(FEW + 1, 24), torch.ones(16, 24), "plain"),
        (torch.ones(1, 24), torch.ones(15, 24), "plain"),  # cannot be cut into equal parts
        (torch.ones(1, 24), torch.ones(24, 16).T, "plain"),  # its rows do not lie together
        (torch.ones(1, 24).double(), torch.ones(16, 24).double(), "plain"),
        (torch.ones(MANY - 1, 24), torch.ones(16, 24), "plain"),
        (torch.ones(MANY, 24), torch.ones(15, 24), "convolution"),
        (torch.ones(MANY, 24).bfloat16(), torch.ones(16, 24).bfloat16(), "plain"),
    ],
)
def test_which_way_a_product_takes(x, weight, way, monkeypatch):
    monkeypatch.setattr(module, "convolutions_are_faster", lambda: True)
    with torch.no_grad(), patch.object(F, "linear", wraps=F.linear) as plain, patch.object(F, "conv2d", wraps=F.conv2d) as conv:
        result = linear(x, weight)
    assert result.shape == (len(x), len(weight))
    assert (plain.called, conv.called) == (way == "plain", way == "convolution")


def test_under_autocast_the_plain_way_is_taken(monkeypatch):
    monkeypatch.setattr(module, "convolutions_are_faster", lambda: True)
    with torch.autocast("cpu", dtype=torch.bfloat16), patch.object(F, "linear", wraps=F.linear) as plain:
        assert linear(torch.ones(MANY, 24), torch.ones(16, 24)).dtype == torch.bfloat16
    assert plain.called


def test_gradients_of_few_tokens_take_the_plain_way():
    layer = Linear(24, 16)
    with patch.object(F, "linear", wraps=F.linear) as plain:
        layer(torch.randn(1, 24)).sum().backward()
    assert plain.called and layer.weight.grad is not None


@pytest.mark.parametrize(("slow", "fast"), [(3.0, 1.0), (1.0, 2.0)])
def test_the_measurement_takes_the_best_of_rounds_that_noise_disturbs(slow, fast, monkeypatch):
    now, interruptions = [0.0], iter([50.0, 40.0, 9.0, 0.0, 0.0, 8.0, 7.0, 6.0, 3.0, 0.0, 0.0, 2.0])

    def work(seconds):
        now[0] += seconds + next(interruptions)

    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    assert module._ratio(lambda: work(slow), lambda: work(fast)) == slow / fast


def test_an_exported_layer_serves_any_number_of_tokens():
    layer = Linear(24, 16).eval()
    tokens = torch.export.Dim("tokens", min=1, max=64)
    with torch.no_grad():
        exported = torch.export.export(layer, (torch.randn(4, 24),), dynamic_shapes=({0: tokens},)).module()
        for count in (1, 4, 40):
            x = torch.randn(count, 24)
            torch.testing.assert_close(exported(x), layer(x), rtol=1e-5, atol=1e-5)
