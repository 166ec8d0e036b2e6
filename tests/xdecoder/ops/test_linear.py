from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F

from xdecoder.ops.linear import FEW, Linear, linear


@pytest.mark.parametrize("shape", [(24,), (1, 24), (1, 1, 24), (5, 24), (FEW, 24), (2, 3, 24), (FEW + 1, 24), (0, 24)])
@pytest.mark.parametrize("biased", [True, False])
def test_as_the_plain_product(shape, biased):
    x, weight, bias = torch.randn(shape), torch.randn(16, 24), torch.randn(16) if biased else None
    with torch.inference_mode():
        torch.testing.assert_close(linear(x, weight, bias), F.linear(x, weight, bias), rtol=1e-5, atol=1e-5)


def test_a_slice_of_a_fused_projection():
    x, weight = torch.randn(1, 24), torch.randn(48, 24)
    with torch.no_grad():
        torch.testing.assert_close(linear(x, weight[16:32]), F.linear(x, weight[16:32]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "weight", "parts"),
    [
        (torch.ones(1, 24), torch.ones(16, 24), True),
        (torch.ones(FEW + 1, 24), torch.ones(16, 24), False),
        (torch.ones(1, 24), torch.ones(15, 24), False),  # cannot be cut into equal parts
        (torch.ones(1, 24), torch.ones(24, 16).T, False),  # its rows do not lie together
        (torch.ones(1, 24).double(), torch.ones(16, 24).double(), False),
    ],
)
def test_which_products_are_cut_into_parts(x, weight, parts):
    with torch.no_grad(), patch.object(F, "linear", wraps=F.linear) as plain:
        result = linear(x, weight)
    assert result.shape == (len(x), len(weight))
    assert plain.called == (not parts)


def test_gradients_take_the_plain_way():
    layer = Linear(24, 16)
    with patch.object(F, "linear", wraps=F.linear) as plain:
        layer(torch.randn(1, 24)).sum().backward()
    assert plain.called and layer.weight.grad is not None


def test_an_exported_layer_serves_any_number_of_tokens():
    layer = Linear(24, 16).eval()
    tokens = torch.export.Dim("tokens", min=1, max=64)
    with torch.no_grad():
        exported = torch.export.export(layer, (torch.randn(4, 24),), dynamic_shapes=({0: tokens},)).module()
        for count in (1, 4, 40):
            x = torch.randn(count, 24)
            torch.testing.assert_close(exported(x), layer(x), rtol=1e-5, atol=1e-5)
