import pytest
import torch

from xdecoder.backbones.focal import FocalConfig, FocalModulation


@pytest.mark.parametrize("depthwise", [True, False])
def test_four_maps_of_strides_4_to_32(depthwise):
    config = FocalConfig(width=16, depths=(1, 1, 2, 1), depthwise=depthwise)
    maps = config.build().eval()(torch.randn(2, 3, 64, 96))
    assert [tuple(x.shape) for x in maps] == [(2, 16, 16, 24), (2, 32, 8, 12), (2, 64, 4, 6), (2, 128, 2, 3)]
    assert config.widths == (16, 32, 64, 128)


def test_modulation_by_its_formula():
    """One position, one level: the depth-wise kernel sees only its centre, the mean is the position itself."""
    torch.manual_seed(0)
    modulation = FocalModulation(4, levels=1, window=3)
    x = torch.randn(1, 1, 1, 4)
    query, context, gates = modulation.f(x).split((4, 4, 2), dim=-1)
    near = torch.nn.functional.gelu(context * modulation.contexts[0].weight[:, 0, 1, 1])
    far = torch.nn.functional.gelu(near)
    mixed = (near * gates[..., :1] + far * gates[..., 1:]) / 2
    mixed = mixed @ modulation.h.weight[:, :, 0, 0].T + modulation.h.bias
    assert torch.allclose(modulation(x), modulation.proj(query * mixed), atol=1e-6)


def test_drop_path_acts_in_training_only():
    torch.manual_seed(0)
    net = FocalConfig(width=16, depths=(1, 1, 1, 1), drop_path=0.9, layer_scale=1.0).build()
    x = torch.randn(4, 3, 32, 32)
    assert torch.equal(net.eval()(x)[-1], net(x)[-1])
    assert not torch.equal(net.train()(x)[-1], net(x)[-1])


def test_an_even_window_is_refused():
    with pytest.raises(ValueError, match="window must be odd, not 4"):
        FocalConfig(window=4)
