"""SAM-B and the pixel decoder behind it, against SEEM's published ones with the same seeded weights."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.parity.recorded import assert_close, seem_weights
from xdecoder.backbones.sam import SamConfig
from xdecoder.model import PIXEL_MEAN, PIXEL_STD
from xdecoder.pixel_decoders import DeformableConfig
from xdecoder.published.names import convert

CHANNELS = slice(None, None, 4)  # every fourth was recorded


@pytest.fixture(scope="module")
def recorded(oracle: Path) -> dict:
    return torch.load(oracle / "seem/values/samvitb_v1_features.pt", weights_only=True)


@pytest.fixture(scope="module")
@torch.no_grad()
def maps(oracle: Path, seeded: ModuleType) -> tuple[Tensor, ...]:
    backbone = SamConfig().build().eval()
    weights = convert(seem_weights(oracle, seeded, "samvitb_v1", "backbone."))
    backbone.load_state_dict({name.removeprefix("backbone."): value for name, value in weights.items()})
    image = torch.load(oracle / "values/inputs.pt", weights_only=True)["eval_img"].float()
    mean, std = (torch.tensor(values)[:, None, None] for values in (PIXEL_MEAN, PIXEL_STD))
    return backbone(F.pad((image - mean) / std, (0, 1024 - image.shape[-1], 0, 1024 - image.shape[-2]))[None])


def test_backbone(maps: tuple[Tensor, ...], recorded: dict) -> None:
    for i, x in enumerate(maps):
        assert_close(x[:, CHANNELS], recorded[f"res{i + 2}"])


@torch.no_grad()
def test_pixel_decoder(maps: tuple[Tensor, ...], recorded: dict, oracle: Path, seeded: ModuleType) -> None:
    decoder = DeformableConfig(width=512).build(SamConfig().widths).eval()
    weights = convert(seem_weights(oracle, seeded, "samvitb_v1", "sem_seg_head.pixel_decoder."))
    decoder.load_state_dict({name.removeprefix("pixel_decoder."): value for name, value in weights.items()})
    mask_features, pyramid = decoder(maps)
    assert_close(mask_features[:, CHANNELS], recorded["mask_features"])
    for i, x in enumerate(pyramid):
        assert_close(x[:, CHANNELS], recorded[f"ms{i}"])
