import math

import pytest
import torch

from xdecoder.ops.deformable import deformable_attention

SHAPES = ((2, 3), (4, 5))


def question(seed=0, batch=2, queries=3, heads=2, width=4, points=2):
    """Values, places (some outside the maps) and weights."""
    generator = torch.Generator().manual_seed(seed)
    pixels = sum(height * width for height, width in SHAPES)
    values = torch.randn(batch, pixels, heads, width, generator=generator)
    places = torch.rand(batch, queries, heads, len(SHAPES), points, 2, generator=generator) * 1.6 - 0.3
    weights = torch.rand(batch, queries, heads, len(SHAPES), points, generator=generator)
    return values, places, weights


def slowly(values, shapes, places, weights):
    """The definition, one sample after the other."""
    batch, queries, heads, _, points, _ = places.shape
    output = torch.zeros(batch, queries, heads, values.shape[-1])
    for b in range(batch):
        for n in range(queries):
            for h in range(heads):
                start = 0
                for level, (height, width) in enumerate(shapes):
                    for p in range(points):
                        x, y = (places[b, n, h, level, p] * torch.tensor([width, height]) - 0.5).tolist()
                        for column in (math.floor(x), math.floor(x) + 1):
                            for row in (math.floor(y), math.floor(y) + 1):
                                if 0 <= column < width and 0 <= row < height:
                                    share = (1 - abs(x - column)) * (1 - abs(y - row)) * weights[b, n, h, level, p]
                                    output[b, n, h] += share * values[b, start + row * width + column, h]
                    start += height * width
    return output.flatten(2)


def test_the_definition():
    values, places, weights = question()
    output = deformable_attention(values, SHAPES, places, weights)
    assert torch.allclose(output, slowly(values, SHAPES, places, weights), atol=1e-5)


def test_gradients_of_values_and_weights():
    values, places, weights = (tensor.requires_grad_(i != 1) for i, tensor in enumerate(question()))
    fast, slow = (
        torch.autograd.grad(function(values, SHAPES, places, weights).square().sum(), (values, weights))
        for function in (deformable_attention, slowly)
    )
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(fast, slow, strict=True))


@pytest.mark.parametrize("axis", [0, 1])
def test_gradient_of_places(axis):
    values, places, weights = question()
    step = torch.zeros_like(places)
    step[1, 2, 0, 1, 0, axis] = 1e-3
    after, before = (slowly(values, SHAPES, places + sign * step, weights).square().sum() for sign in (1, -1))
    places.requires_grad_()
    deformable_attention(values, SHAPES, places, weights).square().sum().backward()
    assert places.grad[1, 2, 0, 1, 0, axis].item() == pytest.approx(((after - before) / 2e-3).item(), rel=1e-2)


def test_a_pixels_centre_reads_the_pixel():
    values = torch.arange(12.0).view(1, 12, 1, 1)
    places = torch.tensor([(2.5 / 4, 1.5 / 3)]).view(1, 1, 1, 1, 1, 2)
    assert deformable_attention(values, [(3, 4)], places, torch.ones(1, 1, 1, 1, 1)).item() == pytest.approx(6)


def test_full_precision_under_autocast():
    values, places, weights = question()
    expected = deformable_attention(values, SHAPES, places, weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(deformable_attention(values, SHAPES, places, weights), expected)
        assert deformable_attention(values.bfloat16(), SHAPES, places, weights).dtype == torch.float32


def test_a_place_that_is_no_number_gives_none():
    values, places, weights = question()
    places[0, 0, 0, 0, 0, 0] = math.nan
    output = deformable_attention(values, SHAPES, places, weights)
    assert output[0, 0, :4].isnan().all() and not output[0, 1:].isnan().any() and not output[1].isnan().any()
