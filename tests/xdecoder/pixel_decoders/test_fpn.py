import pytest
import torch
import torch.nn.functional as F

from xdecoder.pixel_decoders.fpn import FpnConfig


def test_maps_coarse_to_fine_and_mask_features():
    decoder = FpnConfig(width=32, layers=1, heads=4, hidden=64).build((8, 16, 24, 40))
    maps = [torch.randn(2, c, 32 // 2**i, 48 // 2**i) for i, c in enumerate((8, 16, 24, 40))]
    mask_features, pyramid = decoder(maps)
    assert mask_features.shape == (2, 32, 32, 48)
    assert [tuple(x.shape) for x in pyramid] == [(2, 32, 4, 6), (2, 32, 8, 12), (2, 32, 16, 24)]


def test_one_level_of_the_pyramid_by_its_formula():
    torch.manual_seed(0)
    decoder = FpnConfig(width=32, layers=0, heads=4).build((8, 16, 24, 40)).eval()
    maps = [torch.randn(1, c, 16 // 2**i, 16 // 2**i) for i, c in enumerate((8, 16, 24, 40))]
    _, (coarse, finer, _) = decoder(maps)
    lateral = F.group_norm(F.conv2d(maps[2], decoder.laterals[2].conv.weight), 32, decoder.laterals[2].norm.weight)
    summed = lateral + coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = F.relu(F.group_norm(F.conv2d(summed, decoder.outputs[2].conv.weight, padding=1), 32))
    assert torch.allclose(finer, expected, atol=1e-5)


def test_the_coarsest_map_is_seen_as_a_whole():
    """A change in one corner reaches the other through the transformer."""
    torch.manual_seed(0)
    decoder = FpnConfig(width=32, layers=1, heads=4, hidden=64).build((8, 16, 24, 40)).eval()
    maps = [torch.randn(1, c, 64 // 2**i, 64 // 2**i) for i, c in enumerate((8, 16, 24, 40))]
    before = decoder(maps)[1][0]
    maps[3] = maps[3].clone()
    maps[3][..., 0, 0] += 5
    assert not torch.allclose(before[..., -1, -1], decoder(maps)[1][0][..., -1, -1], atol=1e-4)


def test_separable_convolutions_do_the_same_in_two_steps():
    torch.manual_seed(0)
    decoder = FpnConfig(width=32, layers=0, heads=4, separable=True).build((8, 16, 24, 40)).eval()
    maps = [torch.randn(1, c, 16 // 2**i, 16 // 2**i) for i, c in enumerate((8, 16, 24, 40))]
    mask_features, (coarse, _, _) = decoder(maps)
    spatial, mixing = decoder.outputs[3].conv
    both = mixing.weight * spatial.weight.movedim(0, 1)  # one kernel that does both
    expected = F.relu(F.group_norm(F.conv2d(decoder.input_proj(maps[3]), both, padding=1), 32))
    assert torch.allclose(coarse, expected, atol=1e-5)
    assert mask_features.shape == (1, 32, 16, 16)


def test_a_width_that_groups_do_not_divide():
    with pytest.raises(ValueError, match="must be a multiple of 32"):
        FpnConfig(width=48)
