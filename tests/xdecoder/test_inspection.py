from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.tiny import tiny_model
from xdecoder import checkpoint, cli
from xdecoder.files import write_json
from xdecoder.inspection import inspect
from xdecoder.integrity import sha256


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_a_network_says_what_it_is_without_being_built(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model()
    path = tmp_path / name
    checkpoint.save(model, path, origin={"steps": 7, "data": {"shapes": {"files": 3}}})
    write_json(
        tmp_path / "evaluation.json", {"source": {"sha256": sha256(path)}, "results": {"shapes/PQ": 42.0}, "date": "today"}
    )
    monkeypatch.setattr(checkpoint.Checkpoint, "build", None)
    assert cli.main(["inspect", str(path)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["kind"] == "network" and said["sha256"] == sha256(path) and said["intact"]
    assert said["config"]["name"] == "xdecoder" and said["origin"]["steps"] == 7 and "protocol" in said
    assert said["weights"] == sum(x.numel() for x in model.state_dict().values()) and not said["not finite"]
    assert said["scores"] == {"shapes/PQ": 42.0} and said["measured"] == "today"


def test_scores_of_another_file_are_not_told(tmp_path: Path) -> None:
    checkpoint.save(tiny_model(), tmp_path / "model.pt")
    write_json(tmp_path / "evaluation.json", {"source": {"sha256": "0"}, "results": {"shapes/PQ": 42.0}})
    assert "scores" not in inspect(tmp_path / "model.pt")


def test_states_and_other_peoples_files(tmp_path: Path) -> None:
    weights = {"a.weight": torch.tensor([1.0, float("nan")])}
    torch.save({"format": "xdecoder-training/1", "step": 5, "model": weights}, tmp_path / "state.pt")
    found = inspect(tmp_path / "state.pt")
    assert (found["kind"], found["step"], found["not finite"]) == ("training state", 5, ["a.weight"])
    torch.save({"model": weights}, tmp_path / "theirs.pt")
    found = inspect(tmp_path / "theirs.pt")
    assert (found["kind"], found["weights"]) == ("somebody else's file", 2)


def test_what_is_damaged_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint.save(tiny_model(), tmp_path / "model.pt")
    content = bytearray((tmp_path / "model.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "model.pt").write_bytes(content)
    assert cli.main(["inspect", str(tmp_path / "model.pt")]) == 2
    assert "model.pt: damaged, its content does not match its checksums" in capsys.readouterr().err
