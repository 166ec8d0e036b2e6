import pytest
import timm
import torch

from xdecoder.backbones.timm import TimmConfig
from xdecoder.config import ConfigError, parse
from xdecoder.model import XDecoderConfig

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("model", ["resnet10t", "swin_tiny_patch4_window7_224", "hrnet_w18_small"])
def test_four_maps_of_strides_4_to_32(model):
    """A plain pyramid, one with channels last and a fixed picture size, and one with a map more at either end."""
    config = TimmConfig(model=model)
    with torch.device("meta"):
        maps = config.build().eval()(torch.empty(2, 3, 96, 160))
    sizes = [(24, 40), (12, 20), (6, 10), (3, 5)]
    assert [tuple(x.shape) for x in maps] == [(2, width, *size) for width, size in zip(config.widths, sizes, strict=True)]


def test_the_maps_are_timms():
    torch.manual_seed(0)
    net = TimmConfig(model="resnet10t").build().eval()
    images = torch.randn(1, 3, 64, 64)
    theirs = net.network(images)
    assert len(theirs) == 5
    assert all(torch.equal(a, b) for a, b in zip(net(images), theirs[1:], strict=True))


def test_weights_from_a_file(tmp_path):
    torch.manual_seed(0)
    whole = timm.create_model("resnet10t").eval()
    torch.save(whole.state_dict(), tmp_path / "resnet.pt")
    torch.manual_seed(1)
    net = TimmConfig(model="resnet10t", checkpoint=tmp_path / "resnet.pt").build().eval()
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(net(images)[-1], whole.forward_features(images))


def test_weights_of_another_network(tmp_path):
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other.pt: not weights of timm's 'resnet10t' \(\d+ of \d+ are missing or of another"):
        TimmConfig(model="resnet10t", checkpoint=tmp_path / "other.pt").build()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "resnet_50"}, "model 'resnet_50' is not known to timm .*; did you mean 'resnet"),
        ({"model": "vit_tiny_patch16_224"}, "has maps of strides 16, 16, 16; expected 4, 8, 16 and 32 among them"),
        ({"model": "coat_tiny"}, "takes only pictures of certain sizes"),
        ({"model": "resnet10t", "pretrained": True, "checkpoint": "a.pt"}, "give one of them"),
        ({}, "key 'backbone.model' is required"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ConfigError, match=message):
        parse(XDecoderConfig, {"backbone": {"name": "timm", **settings}})


def test_an_unknown_backbone():
    with pytest.raises(ConfigError, match="key 'backbone.name' is 'resnet'; expected one of 'focal', 'davit', 'sam', 'timm'"):
        parse(XDecoderConfig, {"backbone": {"name": "resnet"}})
