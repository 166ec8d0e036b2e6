import pytest
import torch

from xdecoder.backbones.davit import ChannelAttention, DavitConfig, Embedding, WindowAttention


@pytest.mark.parametrize("kernels", [(7, 2, 2, 2), (7, 3, 3, 3)])
def test_four_maps_of_strides_4_to_32(kernels):
    config = DavitConfig(width=16, depths=(1, 1, 2, 1), kernels=kernels, head_width=8)
    maps = config.build().eval()(torch.randn(2, 3, 64, 96))
    assert [tuple(x.shape) for x in maps] == [(2, 16, 16, 24), (2, 32, 8, 12), (2, 64, 4, 6), (2, 128, 2, 3)]
    assert config.widths == (16, 32, 64, 128)


def test_windows_see_themselves_and_their_padding():
    """A map of 3 × 5 in windows of 2, written out: every window, padded with zeros, attends to itself alone."""
    torch.manual_seed(0)
    attention = WindowAttention(8, heads=2, window=2)
    x = torch.randn(1, 3, 5, 8)
    padded = torch.zeros(4, 6, 8)
    padded[:3, :5] = x[0]
    expected = torch.zeros(4, 6, 8)
    for top in range(0, 4, 2):
        for left in range(0, 6, 2):
            q, k, v = attention.qkv(padded[top : top + 2, left : left + 2].reshape(4, 8)).split(8, dim=1)
            heads = [(q[:, part] @ k[:, part].T / 4**0.5).softmax(dim=1) @ v[:, part] for part in (slice(0, 4), slice(4, 8))]
            expected[top : top + 2, left : left + 2] = attention.proj(torch.cat(heads, dim=1)).view(2, 2, 8)
    assert torch.allclose(attention(x)[0], expected[:3, :5], atol=1e-6)


def test_channels_of_a_group_see_each_other():
    torch.manual_seed(0)
    attention = ChannelAttention(8, groups=2)
    x = torch.randn(1, 3, 5, 8)
    q, k, v = attention.qkv(x.reshape(15, 8)).split(8, dim=1)
    groups = [v[:, part] @ (q[:, part].T @ k[:, part] / 15**0.5).softmax(dim=1).T for part in (slice(0, 4), slice(4, 8))]
    assert torch.allclose(attention(x), attention.proj(torch.cat(groups, dim=1)).view(1, 3, 5, 8), atol=1e-6)


def test_the_first_embedding_norms_its_output_the_others_their_input():
    embeddings = DavitConfig(width=16, depths=(1, 1, 1, 1), head_width=8).build().embeddings
    assert [tuple(embedding.norm.normalized_shape) for embedding in embeddings] == [(16,), (16,), (32,), (64,)]
    x = 5 + 3 * torch.randn(2, 8, 8, 3)
    after = Embedding(3, 16, kernel=2, stride=2, norm_first=False)(x)
    assert torch.allclose(after.mean(dim=-1), torch.zeros(2, 4, 4), atol=1e-5)
    before = Embedding(3, 16, kernel=2, stride=2, norm_first=True)
    assert torch.allclose(before(x), before(100 * x), atol=1e-3)


def test_drop_path_acts_in_training_only():
    torch.manual_seed(0)
    net = DavitConfig(width=16, depths=(1, 1, 1, 1), head_width=8, drop_path=0.9).build()
    x = torch.randn(4, 3, 32, 32)
    assert torch.equal(net.eval()(x)[-1], net(x)[-1])
    assert not torch.equal(net.train()(x)[-1], net(x)[-1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 100}, r"width \(100\) must be a multiple of head_width \(32\)"),
        ({"kernels": (3, 2, 2, 2)}, r"kernels \(3, 2, 2, 2\) must not be smaller than the strides \(4, 2, 2, 2\)"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ValueError, match=message):
        DavitConfig(**settings)
