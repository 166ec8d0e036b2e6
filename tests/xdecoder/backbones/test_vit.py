"""Plain transformers behind a small pyramid; all weights are random."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from trainer.adaptation import freeze
from trainer.experiment import ExperimentConfig
from xdecoder.backbones.vit import VitConfig
from xdecoder.config import ConfigError, load, parse
from xdecoder.model import XDecoderConfig

pytestmark = pytest.mark.slow

SIGLIP_MEAN = (0.5, 0.5, 0.5)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)


@pytest.mark.parametrize(
    ("model", "mean"),
    [
        ("vit_small_patch14_dinov2.lvd142m", (0.485, 0.456, 0.406)),
        ("vit_small_patch16_dinov3.lvd1689m", (0.485, 0.456, 0.406)),
        ("vit_base_patch16_siglip_256.v2_webli", SIGLIP_MEAN),
        ("vit_base_patch32_clip_224.laion2b", CLIP_MEAN),
    ],
)
def test_four_maps_of_strides_4_to_32_for_any_size(model: str, mean: tuple[float, ...]) -> None:
    """Whatever the patches' size is; pictures come as each was trained."""
    config = VitConfig(model=model)
    with torch.device("meta"):
        backbone = config.build().eval()
        maps = backbone(torch.empty(2, 3, 96, 160))
    sizes = [(24, 40), (12, 20), (6, 10), (3, 5)]
    assert [tuple(x.shape) for x in maps] == [(2, width, *size) for width, size in zip(config.widths, sizes, strict=True)]
    assert backbone.mean == pytest.approx(mean, abs=1e-3)


def test_the_map_is_the_encoders_and_earlier_blocks_can_be_asked() -> None:
    torch.manual_seed(0)
    backbone = VitConfig(model="vit_tiny_patch16_224").build().eval()
    images = torch.randn(1, 3, 64, 96)
    tokens = backbone.encoder.forward_features(backbone_input(backbone, images))
    expected = tokens[:, 1:].transpose(1, 2).unflatten(2, (4, 6))
    assert torch.allclose(backbone(images)[2], expected, atol=1e-5)
    earlier = VitConfig(model="vit_tiny_patch16_224", drop_last=2).build().eval()
    earlier.load_state_dict(backbone.state_dict())
    assert not torch.allclose(earlier(images)[2], expected, atol=1e-2)


def backbone_input(backbone: Any, images: torch.Tensor) -> torch.Tensor:
    """The pictures as the encoder sees them: from ImageNet's normalisation to its own."""
    shift = [torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    own = [torch.tensor(values)[:, None, None] for values in (backbone.mean, backbone.std)]
    return (images * shift[1] + shift[0] - own[0]) / own[1]


def test_weights_from_a_file(tmp_path: Any) -> None:
    torch.manual_seed(0)
    whole = timm.create_model("vit_tiny_patch16_224").eval()
    torch.save(whole.state_dict(), tmp_path / "vit.pt")
    backbone = VitConfig(model="vit_tiny_patch16_224", checkpoint=tmp_path / "vit.pt").build()
    assert torch.equal(backbone.encoder.blocks[3].mlp.fc1.weight, whole.blocks[3].mlp.fc1.weight)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "vit_small_patch16_dinov4"}, "model 'vit_small_patch16_dinov4' is not known to timm .*; did you mean 'vit_"),
        ({"model": "resnet10t"}, "'resnet10t' is no plain vision transformer"),
        ({"model": "vit_tiny_patch16_224", "drop_last": 12}, "drop_last is 12, but 'vit_tiny_patch16_224' has 12 blocks"),
        ({"model": "vit_tiny_patch16_224", "pretrained": True, "checkpoint": "a.pt"}, "give one of them"),
    ],
)
def test_refusals(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(XDecoderConfig, {"backbone": {"name": "vit", **settings}})


@pytest.mark.parametrize("name", ["convnext_dinov3", "convnext_clip", "vit_dinov2", "vit_dinov3", "vit_siglip2"])
def test_frozen_encoders_leave_a_small_network_to_learn(name: str) -> None:
    """The configs, with random weights: the encoder keeps its weights, and nothing of it is fetched to read a checkpoint."""
    config = load(ExperimentConfig, f"configs/frozen/{name}.yaml")
    assert config.model.backbone.pretrained
    with torch.device("meta"):
        model = config.model.empty()
    freeze(model, config.trainer.freeze)
    learning = {name.split(".")[0] for name, value in model.named_parameters() if value.requires_grad}
    assert {"pixel_decoder", "decoder", "language"} <= learning
    encoder = getattr(model.backbone, "encoder", model.backbone)
    assert not any(value.requires_grad for value in encoder.parameters())
    assert sum(value.numel() for value in model.parameters() if value.requires_grad) < 30e6
