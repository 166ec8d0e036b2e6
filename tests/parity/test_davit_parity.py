"""Our DaViT-d3 and both pixel decoders behind it, against the published ones with the same seeded weights."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from xdecoder.config import parse
from xdecoder.model import XDecoder, XDecoderConfig
from xdecoder.published.architectures import ARCHITECTURES
from xdecoder.published.names import convert


@pytest.fixture(scope="module")
def pixels(oracle: Path) -> Tensor:
    image = torch.load(oracle / "values/inputs.pt", weights_only=True)["eval_img"]
    return XDecoder.prepare([image], torch.device("cpu"))


@pytest.fixture(scope="module")
def maps(oracle: Path, seeded: ModuleType, pixels: Tensor) -> tuple[Tensor, ...]:
    return run(part("davitd3", "backbone", oracle, seeded), pixels)


def part(architecture: str, name: str, oracle: Path, seeded: ModuleType) -> nn.Module:
    """One part of a published network, filled."""
    names = json.loads((oracle / f"names/{architecture}_state_dict.json").read_text())
    theirs = {"backbone": "backbone.", "pixel_decoder": "sem_seg_head.pixel_decoder."}[name]
    weights = convert(seeded.seeded_state_dict({key: entry for key, entry in names.items() if key.startswith(theirs)}))
    config = parse(XDecoderConfig, ARCHITECTURES[architecture])
    module = config.backbone.build() if name == "backbone" else config.pixel_decoder.build(config.backbone.widths)
    module.load_state_dict({key.removeprefix(f"{name}."): value for key, value in weights.items()})
    return module.eval()


@torch.no_grad()
def run(module: nn.Module, *inputs: Any) -> Any:
    return module(*inputs)


def assert_near(ours: Tensor, recorded: dict[str, Any]) -> None:
    ours = ours[(..., *(slice(None, None, step) for step in recorded["strides"]))]
    assert ours.shape == recorded["data"].shape
    assert ((ours - recorded["data"]).norm() / recorded["data"].norm()).item() < 1e-5


def test_backbone(maps: tuple[Tensor, ...], pixels: Tensor, oracle: Path) -> None:
    recorded = torch.load(oracle / "values/davitd3_features.pt", weights_only=True)
    assert_near(pixels, recorded["input_padded"])
    for i, x in enumerate(maps):
        assert_near(x, recorded[f"res{i + 2}"])


@pytest.mark.parametrize("architecture", ["davitd3", "davitd3_deform"])
def test_pixel_decoders(architecture: str, maps: tuple[Tensor, ...], oracle: Path, seeded: ModuleType) -> None:
    recorded = torch.load(oracle / f"values/{architecture}_features.pt", weights_only=True)
    mask_features, pyramid = run(part(architecture, "pixel_decoder", oracle, seeded), maps)
    assert_near(mask_features, recorded["mask_features"])
    for i, x in enumerate(pyramid):
        assert_near(x, recorded[f"ms{i}"])
