"""Names, shapes and types of every published architecture, in both directions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.tiny import tiny_model
from xdecoder.config import parse
from xdecoder.model import XDecoder, XDecoderConfig
from xdecoder.published.architectures import ARCHITECTURES
from xdecoder.published.names import BUFFERS, convert, to_ours, to_published, to_published_state

SIZES = {
    "focalt": 164_493_809,
    "davitd3": 221_978_113,
    "davitd3_deform": 204_240_577,
    "davitd5": 497_190_401,
    "focall": 341_551_353,
}


def empty(architecture: str) -> XDecoder:
    with torch.device("meta"):
        return XDecoder(parse(XDecoderConfig, ARCHITECTURES[architecture]))


def described(state: dict[str, Tensor]) -> dict[str, list]:
    return {name: [list(value.shape), str(value.dtype)] for name, value in state.items()}


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_sizes(architecture: str) -> None:
    assert sum(value.numel() for value in empty(architecture).state_dict().values()) == SIZES[architecture]


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_both_directions(architecture: str, oracle: Path) -> None:
    published = json.loads((oracle / f"names/{architecture}_state_dict.json").read_text())
    ours = empty(architecture).state_dict()
    assert described(to_published_state(ours)) == published
    for name in published.keys() - set(BUFFERS):
        assert to_ours(name) in ours and to_published(to_ours(name)) == name
    assert {to_ours(name) for name in published.keys() - set(BUFFERS)} == ours.keys()


def test_every_published_file_is_tested(oracle: Path) -> None:
    files = oracle.glob("names/*_state_dict.json")
    assert {path.name.removesuffix("_state_dict.json") for path in files} == ARCHITECTURES.keys()


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "module.model."])
def test_round_trip_is_bit_identical(prefix: str) -> None:
    ours = tiny_model().state_dict()
    published = {prefix + name: value for name, value in to_published_state(ours).items()}
    back = convert(published)
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], value) for name, value in ours.items())


def test_constants_that_published_files_hold() -> None:
    """9 queries of which the last stands for the picture, then 24 words: blocked is what the table of sights leaves out."""
    published = to_published_state(tiny_model().state_dict(), classes=3)
    assert published["criterion.empty_weight"].tolist() == pytest.approx([1, 1, 1, 0.1])
    blocked = published["sem_seg_head.predictor.self_attn_mask"]
    assert blocked.shape == (1, 33, 33) and blocked.dtype == torch.bool
    for row in range(33):
        for column in range(33):
            if row < 8:
                seen = column < 8
            elif row == 8:
                seen = column == 8
            else:
                seen = column <= row
            assert blocked[0, row, column].item() == (not seen)


def test_what_no_published_network_has_keeps_its_name() -> None:
    assert to_ours("backbone.conv1.weight") == "backbone.conv1.weight"
    assert list(convert({"module.zebra": torch.zeros(1)})) == ["zebra"]


def test_a_weight_that_stands_twice() -> None:
    with pytest.raises(ValueError, match="stands twice in the checkpoint"):
        convert({"backbone_proj": torch.zeros(1), "model.backbone_proj": torch.zeros(1)})
