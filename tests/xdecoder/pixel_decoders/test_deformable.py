import pytest
import torch
import torch.nn.functional as F

from xdecoder.pixel_decoders.deformable import DeformableAttention, DeformableConfig, pixel_centres

WIDTHS = (8, 16, 24, 40)


def small(**settings):
    torch.manual_seed(0)
    config = DeformableConfig(**{"width": 32, "layers": 1, "heads": 4, "points": 2, "hidden": 64, **settings})
    return config.build(WIDTHS).eval()


def backbone_maps(batch=1, height=32, width=48):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, c, height // 2**i, width // 2**i, generator=generator) for i, c in enumerate(WIDTHS)]


def test_maps_coarse_to_fine_and_mask_features():
    mask_features, pyramid = small()(backbone_maps(2))
    assert mask_features.shape == (2, 32, 32, 48)
    assert [tuple(x.shape) for x in pyramid] == [(2, 32, 4, 6), (2, 32, 8, 12), (2, 32, 16, 24)]


def test_mask_features_by_their_formula():
    decoder, maps = small(layers=0), backbone_maps()
    mask_features, pyramid = decoder(maps)
    for proj, x, y in zip(decoder.input_proj, maps[:0:-1], pyramid, strict=True):
        assert torch.allclose(F.group_norm(F.conv2d(x, proj.conv.weight, proj.conv.bias), 32), y, atol=1e-5)
    lateral = F.group_norm(F.conv2d(maps[0], decoder.laterals[0].conv.weight), 32)
    summed = lateral + F.interpolate(pyramid[2], scale_factor=2, mode="bilinear")
    smooth = F.relu(F.group_norm(F.conv2d(summed, decoder.outputs[0].conv.weight, padding=1), 32))
    expected = F.conv2d(smooth, decoder.mask_features.weight, decoder.mask_features.bias)
    assert torch.allclose(mask_features, expected, atol=1e-5)


def test_levels_exchange_what_they_see():
    """A change on the coarsest map reaches the same place on the finest of the three."""
    decoder, maps = small(), backbone_maps()
    before = decoder(maps)[1][2]
    maps[3] = maps[3].clone()
    maps[3][..., 0, 0] += 5
    assert not torch.allclose(before[..., 0, 0], decoder(maps)[1][2][..., 0, 0], atol=1e-4)


def test_heads_start_on_a_compass_rose():
    attention = DeformableAttention(64, heads=8, points=4)
    attention.initialise_places()
    bias = attention.sampling_offsets.bias.view(8, 3, 4, 2)
    assert not attention.sampling_offsets.weight.any() and not attention.attention_weights.weight.any()
    rose = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    for head, direction in enumerate(rose):
        for point in range(4):
            expected = torch.tensor(direction) * (point + 1.0)
            assert torch.allclose(bias[head, :, point], expected.expand(3, 2), atol=1e-5)


def test_offsets_are_pixels_of_each_map():
    """One head with one point, moved one pixel to the right on every map, reads the right neighbour's mean over the maps."""
    attention = DeformableAttention(2, heads=1, points=1)
    attention.initialise_places()  # head 0 looks to the right
    for layer in (attention.value_proj, attention.output_proj):
        torch.nn.init.eye_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    shapes = [(1, 2), (1, 4), (1, 8)]
    x = torch.arange(14.0).view(1, 14, 1).expand(1, 14, 2)
    centres = torch.tensor([[0.5, 0.5]])
    output = attention(x[:, :1], x, centres, shapes)
    # Places in pixels: 0.5 + 1 (outside by half: 0.5 · its last pixel), 1.5 + 1, 3.5 + 1.
    assert output[0, 0, 0].item() == pytest.approx((0.5 * 1 + (2 + 2.5) + (6 + 4.5)) / 3)


def test_pixel_centres_run_row_by_row():
    assert pixel_centres(1, 2, torch.device("cpu")).tolist() == [[0.25, 0.5], [0.75, 0.5]]
    assert pixel_centres(2, 3, torch.device("cpu"))[4].tolist() == pytest.approx([0.5, 0.75])


def test_full_precision_under_autocast():
    decoder, maps = small(), backbone_maps()
    expected = decoder(maps)[1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mask_features, pyramid = decoder(maps)
    assert mask_features.dtype == torch.bfloat16
    assert all(torch.equal(a, b) for a, b in zip(pyramid, expected, strict=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 48}, r"width \(48\) must be a multiple of the groups of its norms \(32\)"),
        ({"width": 64, "heads": 6}, r"width \(64\) must be a multiple of heads \(6\)"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ValueError, match=message):
        DeformableConfig(**settings)
