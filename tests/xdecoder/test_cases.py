"""Files of kinds that real people reported (`../shared/cases`): those that the library itself reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import xdecoder
from tests.tiny import tiny_model
from xdecoder import checkpoint, cli
from xdecoder.files import read_lines
from xdecoder.images import open_image


@pytest.fixture
def cases(shared: Path) -> Path:
    return shared / "cases"


def test_cli_class_file(cases: Path, tmp_path: Path, capsys: Any) -> None:
    names = cases / "cli-class-file/classes.txt"
    assert read_lines(names) == ["star", "ring", "disc"]
    checkpoint.save(tiny_model(), tmp_path / "model.pt")
    image = next((cases / "pictures-16bit/input/images").iterdir())
    assert cli.main(["segment", str(image), "--classes", f"@{names}", "--checkpoint", str(tmp_path / "model.pt")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {region["name"] for region in told["regions"]} <= {"star", "ring", "disc"}


def test_pictures_16bit(cases: Path) -> None:
    for path in sorted((cases / "pictures-16bit/input/images").iterdir()):
        pixels = np.asarray(open_image(path))
        assert pixels.min() < 100 < pixels.std() + 100 and (pixels[..., 0] == pixels[..., 2]).all(), "neither white nor black"


def test_checkpoint_nan(tmp_path: Path) -> None:
    checkpoint.save(tiny_model(), tmp_path / "model.pt")
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    name = "backbone.stages.0.0.gamma1"
    content["model"][name] = torch.full_like(content["model"][name], float("nan"))
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=rf"x\.pt: weight '{name}' is not finite"):
        xdecoder.load(tmp_path / "x.pt")


def test_checkpoint_state_dict(tmp_path: Path) -> None:
    torch.save(tiny_model().state_dict(), tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt: weights of .* without its configuration .* `weights: FILE`"):
        xdecoder.load(tmp_path / "x.pt")
