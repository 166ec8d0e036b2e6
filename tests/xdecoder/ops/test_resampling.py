from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder.ops import resampling
from xdecoder.ops.resampling import band, resize


def last(x: Tensor) -> Tensor:
    return x.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    ("size", "smaller"),
    [((64, 96), (32, 48)), ((64, 96), (8, 12)), ((37, 130), (9, 33)), ((5, 7), (5, 7)), ((6, 4), (13, 9)), ((1, 1), (1, 1))],
)
def test_it_is_torchs_resizing(size: tuple[int, int], smaller: tuple[int, int], mode: str) -> None:
    x = last(torch.randn(2, 5, *size))
    expected = F.interpolate(x.contiguous(), size=smaller, mode=mode, antialias=mode == "bicubic")
    with torch.no_grad():
        ours = resize(x, smaller, mode)
    assert ours.shape == expected.shape
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_it_is_taken_where_channels_lie_last_and_no_gradient_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, ...]] = []
    ours = resampling._by_products
    monkeypatch.setattr(resampling, "_by_products", lambda x, *rest: taken.append(tuple(x.shape)) or ours(x, *rest))
    with torch.no_grad():
        assert resize(last(torch.randn(1, 3, 8, 12)), (4, 6), "bicubic").stride(1) == 1
        resize(torch.randn(1, 4, 8, 12), (4, 6), "bicubic")
        resize(last(torch.randn(2, 3, 9, 12))[:, :, :8, :10], (4, 5), "bicubic")  # a part of a map has its layout
    x = last(torch.randn(1, 5, 8, 12)).requires_grad_()
    assert resize(x, (4, 6), "bicubic").requires_grad
    assert taken == [(1, 3, 8, 12), (2, 3, 8, 10)]


def test_a_band_holds_all_that_is_not_zero() -> None:
    assert band(torch.tensor([[0.0, 1, 0, 0, 0], [0, 0, 0, -2, 0]])) == slice(1, 4)
