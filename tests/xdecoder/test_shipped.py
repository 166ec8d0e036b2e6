"""The network inside the package is asked where nobody names one."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import xdecoder
from tests.tiny import tiny_model
from xdecoder import checkpoint, cli, shipped, weights


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a network in it."""
    path = tmp_path / "package/pocket.safetensors"
    path.parent.mkdir()
    model = tiny_model()
    checkpoint.save(model, path, {name: value.half() for name, value in model.state_dict().items()})
    monkeypatch.setattr(shipped, "FILE", path)
    return path


def test_a_package_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(shipped, "FILE", tmp_path / "none.safetensors")
    for source in (None, "pocket"):
        with pytest.raises(ValueError, match="this package has no network inside; name a checkpoint's path"):
            xdecoder.load(source)
    with pytest.raises(SystemExit) as refused:
        cli.main(["caption", "photo.jpg"])
    assert refused.value.code == 2 and "--checkpoint" in capsys.readouterr().err


def test_it_is_asked_by_default_and_by_name(
    inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 30), "green").save("photo.png")
    said = [xdecoder.load(source).caption("photo.png") for source in (None, "pocket", inside)]
    assert said[0] == said[1] == said[2]
    assert cli.main(["caption", "photo.png", "--device", "cpu"]) == 0
    told = capsys.readouterr()
    assert "asking pocket, the network inside the package" in told.err and "photo.png" in told.out


def test_a_file_of_that_name_comes_first(inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pocket").mkdir()
    assert shipped.named_or_shipped("pocket") == "pocket" and shipped.named_or_shipped(None) == inside


def test_it_is_listed_with_the_published_ones(inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"licences of what it learnt from are in {inside.parent / 'MODEL_CARD.md'}" in weights.listing()
    monkeypatch.setattr(shipped, "FILE", tmp_path / "none.safetensors")
    assert "pocket" not in weights.listing()
