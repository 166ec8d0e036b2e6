"""The hub's methods, without a network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import xdecoder
from tests.tiny import tiny_model
from xdecoder import hub
from xdecoder.hub import Pretrained
from xdecoder.protocol import Protocol


def assert_equal(a: torch.nn.Module, b: torch.nn.Module) -> None:
    first, second = a.state_dict(), b.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Pretrained(tiny_model()).save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_round_trip(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert json.loads((folder / "config.json").read_text())["decoder"]["queries"] == 9
    model = Pretrained.from_pretrained(folder).model
    assert model.config == tiny_model().config and not model.training
    assert_equal(model, tiny_model())
    assert_equal(xdecoder.load(folder).model, tiny_model())  # the file alone says all
    assert_equal(xdecoder.load(folder / "model.safetensors").model, tiny_model())
    assert xdecoder.Pretrained is Pretrained


def test_it_answers_and_its_card_says_what_it_is(tmp_path: Path) -> None:
    model = tiny_model()
    model.protocol = Protocol(taught={"shapes_train": ("segmentation",)}, measured={"shapes_val": ("segmentation",)})
    Pretrained(model).save_pretrained(tmp_path, model_card_kwargs={"scores": {"shapes_val/PQ": 73.7}})
    card = (tmp_path / "README.md").read_text()
    for line in (
        "xdecoder.Pretrained.from_pretrained",
        "Taught shapes_train (segmentation)",
        "- shapes_val/PQ: 73.7",
        "```yaml",
    ):
        assert line in card, line
    found = Pretrained.from_pretrained(tmp_path).segment(Image.new("RGB", (64, 48)), ["cat", "dog"])
    assert found.labels.shape == (48, 64)


def test_from_a_repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repo_id: str, filename: str, **settings: object) -> str:
        asked.append((repo_id, filename, settings.get("revision")))
        return str(folder / filename)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", download)
    assert_equal(Pretrained.from_pretrained("someone/model", revision="v1").model, tiny_model())
    assert asked == [("someone/model", "config.json", "v1"), ("someone/model", "model.safetensors", "v1")]


def test_push(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hub:
        def __init__(self, **_: object) -> None: ...

        def create_repo(self, repo_id: str, **_: object) -> object:
            return type("Repository", (), {"repo_id": repo_id})

        def upload_folder(self, repo_id: str, folder_path: Path, **_: object) -> str:
            shutil.copytree(folder_path, tmp_path / "uploaded")
            return f"pushed to {repo_id}"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Hub)
    answer = Pretrained.from_pretrained(folder).push_to_hub("someone/model")
    assert answer == "pushed to someone/model"
    assert_equal(Pretrained.from_pretrained(tmp_path / "uploaded").model, tiny_model())


def test_a_folder_of_something_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match=r"no config\.json there; expected what save_pretrained writes"):
        Pretrained.from_pretrained(tmp_path)


def test_a_folder_whose_files_do_not_belong_together(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    settings["decoder"]["queries"] = 11
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"model\.safetensors: checkpoint of another architecture than the config\.json"):
        Pretrained.from_pretrained(folder)
