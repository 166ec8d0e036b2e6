"""The demo of referring image editing, with a painter of one colour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.tiny import tiny_model
from xdecoder import checkpoint, editing


def test_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    import demo_refedit

    asked: dict[str, Any] = {}

    def inpainter(image: Image.Image, mask: np.ndarray, prompt: str) -> Image.Image:
        asked.update(prompt=prompt)
        return Image.new("RGB", image.size, "lime")

    monkeypatch.setattr(editing, "load_inpainter", lambda name, device: asked.update(name=name) or inpainter)
    checkpoint.save(tiny_model(), tmp_path / "model.pt")
    line = ["--checkpoint", str(tmp_path / "model.pt"), "--output", str(tmp_path / "edit.png"), "--inpainter", "folder"]
    run = [demo_refedit.ask, "edit.png"]
    assert demo_refedit.main(*run, arguments=[*line, "--texts", "a cat", "a cube"], options=demo_refedit.options) == 0
    assert asked["prompt"] == "a cube" and asked["name"] == "folder"
    with Image.open(tmp_path / "edit.png") as edited:
        assert (np.asarray(edited) == (0, 255, 0)).all(axis=2).any()
    capsys.readouterr()
    assert demo_refedit.main(*run, arguments=[*line, "--texts", "a cat"], options=demo_refedit.options) == 2
    assert "--texts: expected two, what is to go and what shall be there, not 1" in capsys.readouterr().err
