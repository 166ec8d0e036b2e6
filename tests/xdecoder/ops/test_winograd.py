from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from xdecoder.ops import winograd
from xdecoder.ops.winograd import Convolution, convolve, use_winograd


@pytest.mark.parametrize("size", [(64, 64), (65, 67), (4, 4), (1, 10), (30, 7)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_convolution(size: tuple[int, int], bias: bool) -> None:
    x, weight, shift = torch.randn(2, 5, *size), torch.randn(7, 5, 3, 3) / 7, torch.randn(7) if bias else None
    expected = F.conv2d(x.double(), weight.double(), shift.double() if bias else None, padding=1)
    ours = convolve(x, weight, shift)
    assert ours.shape == expected.shape
    torch.testing.assert_close(ours.double(), expected, rtol=0, atol=5e-5)
    torch.testing.assert_close(convolve(x.double(), weight.double(), None if shift is None else shift.double()), expected)


def test_only_who_asks_for_it_and_needs_no_gradient_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, ...]] = []
    monkeypatch.setattr(winograd, "convolve", lambda x, weight, bias: taken.append(tuple(x.shape)) or convolve(x, weight, bias))
    layer = torch.nn.Sequential(Convolution(3, 4))
    large, small = torch.randn(1, 3, 70, 64), torch.randn(1, 3, 63, 70)
    with torch.no_grad():
        plain = layer(large)
        use_winograd(layer)
        torch.testing.assert_close(layer(large), plain, rtol=1e-4, atol=1e-5)
        layer(small)
    assert layer(large).requires_grad
    assert taken == [(1, 3, 70, 64)]
