"""Published SEEM files: written, told apart by name or argument, read; an X-Decoder starts a SEEM."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import xdecoder
from tests.tiny import tiny_config, tiny_model, tiny_seem
from xdecoder import checkpoint
from xdecoder.config import parse
from xdecoder.model import XDecoder
from xdecoder.published import checkpoints
from xdecoder.seem.network import Seem
from xdecoder.seem.tables import DEMO, V0, V1


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seem")
    for name in ("seem_tiny_v0.pt", "seem_tiny_v1.pt", "model.pt"):
        checkpoints.save(tiny_seem("v1"), folder / name)
    return folder


@pytest.mark.parametrize(
    ("name", "version", "table", "queries"),
    [
        ("seem_tiny_v0.pt", None, V0, "all"),
        ("seem_tiny_v1.pt", None, V1, 3),
        ("seem_tiny_v1.pt", "v0", V0, "all"),
        ("model.pt", "v1", V1, 3),
        ("seem_tiny_v0.pt", "demo", DEMO, "object"),
    ],
)
def test_load(name: str, version: str | None, table: object, queries: object, files: Path) -> None:
    model = xdecoder.load(files / name, version=version).model
    assert isinstance(model, Seem) and model.config.published_quirks
    assert model.config.decoder.attention == table and model.config.strokes.queries == queries
    own = tiny_seem().state_dict()
    assert all(torch.equal(value, own[key]) for key, value in model.state_dict().items())


def test_what_cannot_be_told_is_asked(files: Path) -> None:
    with pytest.raises(ValueError, match='look alike inside; say which it is with version="v0" or version="v1"'):
        xdecoder.load(files / "model.pt")


def test_a_version_of_what_has_none(files: Path) -> None:
    checkpoints.save(tiny_model(), files / "xdecoder.pt")
    with pytest.raises(ValueError, match=r"xdecoder\.pt: is no SEEM, so there is no version 'v1' of it"):
        xdecoder.load(files / "xdecoder.pt", version="v1")
    checkpoint.save(tiny_seem(), files / "own.pt")
    with pytest.raises(ValueError, match="one of our own files, which knows its version"):
        xdecoder.load(files / "own.pt", version="v1")


@pytest.mark.parametrize("name", ["own_v0.pt", "own.safetensors"])
def test_our_own_files_know_their_version(name: str, tmp_path: Path) -> None:
    checkpoint.save(tiny_seem("v0"), tmp_path / name)
    loaded = checkpoint.load(tmp_path / name)
    assert isinstance(loaded, Seem) and loaded.config == tiny_seem("v0").config


def test_an_xdecoder_starts_a_seem_and_says_what_is_new(tmp_path: Path) -> None:
    settings = tiny_config().model_dump(mode="json")
    checkpoints.save(XDecoder(parse(type(tiny_config()), settings)), tmp_path / "xdecoder.pt")
    seem = tiny_seem()
    done = checkpoints.initialise(seem, tmp_path / "xdecoder.pt")
    assert all(name.startswith("strokes.") for name in done.new) and len(done.new) == len(seem.strokes.state_dict())
    assert "are new: strokes.memory_content, strokes.memory_position, strokes.projections, strokes.sign" in str(done)
    assert set(done.unused) == {"backbone_proj", "decoder.caption_position.weight", "decoder.heads.caption"}


def test_a_seem_that_lacks_a_weight(files: Path) -> None:
    content = torch.load(files / "seem_tiny_v1.pt", weights_only=True)
    del content["sem_seg_head.predictor.mask_sptial_embed.1"]
    torch.save(content, files / "seem_cut_v1.pt")
    with pytest.raises(ValueError, match=r"lacks 1 weights of its network \(seem\), for example 'strokes.projections.1'"):
        xdecoder.load(files / "seem_cut_v1.pt")
