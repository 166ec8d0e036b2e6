"""Our Focal-T against the numbers of the published one, computed with the same seeded weights."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from xdecoder.model import Encoded, XDecoder, XDecoderConfig
from xdecoder.published.names import convert


@pytest.fixture(scope="module")
def model(oracle: Path, seeded: ModuleType) -> XDecoder:
    names = json.loads((oracle / "names/focalt_state_dict.json").read_text())
    model = XDecoder(XDecoderConfig(published_quirks=True))
    model.load_state_dict(convert(seeded.seeded_state_dict(names)))  # strict: every name is mapped, every shape equal
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def features(model: XDecoder, oracle: Path) -> Encoded:
    image = torch.load(oracle / "values/inputs.pt", weights_only=True)["eval_img"]
    return model.encode([image])


def assert_near(ours: Tensor, recorded: Any, tolerance: float = 1e-4) -> None:
    """Relative L2 distance; a record may hold every k-th value along the last dimensions."""
    if isinstance(recorded, dict):
        steps = tuple(slice(None, None, step) for step in recorded["strides"])
        ours, recorded = ours[(..., *steps)], recorded["data"]
    assert ours.shape == recorded.shape
    assert ((ours - recorded).norm() / recorded.norm()).item() < tolerance


def test_backbone_and_pixel_decoder(model: XDecoder, features: Encoded, oracle: Path) -> None:
    recorded = torch.load(oracle / "values/focalt_features.pt", weights_only=True)
    inputs = torch.load(oracle / "values/inputs.pt", weights_only=True)
    for i, x in enumerate(model.backbone(model.prepare([inputs["eval_img"]], model.device))):
        assert_near(x, recorded[f"res{i + 2}"])
    assert_near(features.mask, recorded["mask_features"])
    for i, x in enumerate(features.maps):
        assert_near(x, recorded[f"ms{i}"])


def test_every_layer_of_the_decoder(model: XDecoder, features: Encoded, oracle: Path) -> None:
    recorded = torch.load(oracle / "values/focalt_decoder.pt", weights_only=True)
    texts = torch.load(oracle / "values/focalt_text.pt", weights_only=True)["coco134_ensemble"]
    layers = model.decode(features)
    assert len(layers) == len(recorded["pred_logits_all"]) == 10
    for i, layer in enumerate(layers):
        rows = layer.object_and_image
        cosines = F.normalize(rows.semantic, dim=-1) @ F.normalize(texts, dim=-1).T
        assert_near((model.language.logit_scale.exp() * cosines)[0], recorded["pred_logits_all"][i])
    assert_near(rows.masks(features.mask), recorded["pred_masks_last"])
