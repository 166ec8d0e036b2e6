"""The architecture of every published network is told from its names and shapes alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from xdecoder.config import parse
from xdecoder.model import XDecoder, XDecoderConfig
from xdecoder.published.architectures import ARCHITECTURES
from xdecoder.published.checkpoints import interpret
from xdecoder.published.names import to_published_state


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("prefix", ["", "module.model."])
def test_detection(oracle: Path, name: str, prefix: str) -> None:
    names = json.loads((oracle / f"names/{name}_state_dict.json").read_text())
    content = {prefix + key: torch.empty(shape) for key, (shape, _) in names.items()}
    found = interpret({"model": content}, Path("file.pt"))
    assert found.config == parse(XDecoderConfig, {**ARCHITECTURES[name], "published_quirks": True})
    with torch.device("meta"):
        model = XDecoder(found.config)
    assert {key: value.shape for key, value in model.state_dict().items()} == {k: v.shape for k, v in found.weights.items()}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_written_files_have_the_published_names_shapes_and_types(oracle: Path, name: str) -> None:
    names = json.loads((oracle / f"names/{name}_state_dict.json").read_text())
    with torch.device("meta"):
        state = XDecoder(parse(XDecoderConfig, ARCHITECTURES[name])).state_dict()
    written = to_published_state(state)
    assert {key: [list(value.shape), str(value.dtype)] for key, value in written.items()} == names
