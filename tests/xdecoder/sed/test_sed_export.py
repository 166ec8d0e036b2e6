"""SED as an exported graph and on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.xdecoder.sed.tiny import tiny_sed
from xdecoder import checkpoint
from xdecoder.cli import main
from xdecoder.inference.export import export, write_classes
from xdecoder.types import Vocabulary


@pytest.mark.parametrize("count", [2, 5])
def test_onnx_takes_any_vocabulary(tmp_path: Path, count: int) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = tiny_sed()
    export(model, tmp_path / "sed.onnx", (64, 96))
    names = tuple(f"class {i}" for i in range(count))
    write_classes(model, Vocabulary(names, (False,) * count), tmp_path / "classes.npz")
    images = torch.randint(0, 256, (2, 3, 64, 96)).float()
    texts = np.load(tmp_path / "classes.npz")["texts"]
    session = runtime.InferenceSession(tmp_path / "sed.onnx", providers=["CPUExecutionProvider"])
    probabilities, masks = session.run(None, {"images": images.numpy(), "texts": texts})
    with torch.no_grad():
        logits = model(model.encode(list(images)), model.embed(names)).final
    expected = torch.nn.functional.interpolate(logits, (16, 24), mode="bilinear")
    assert masks == pytest.approx(expected.numpy(), abs=1e-4)
    assert (probabilities == np.eye(count, count + 1)[None]).all() and len(probabilities) == 2


def test_command_line_segments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint.save(tiny_sed(), tmp_path / "sed.pt")
    Image.new("RGB", (50, 40), "red").save(tmp_path / "photo.jpg")
    words = ["segment", "--checkpoint", str(tmp_path / "sed.pt"), str(tmp_path / "photo.jpg"), "--classes", "cat", "dog"]
    assert main([*words, "--out", str(tmp_path / "found")]) == 0
    (drawing,) = (tmp_path / "found").glob("*.png")
    with Image.open(drawing) as image:
        assert image.height >= 40
    words[0] = "panoptic"
    assert main([*words[:4], "--things", "cat", "--out", str(tmp_path / "found")]) == 2
    assert "(sed) tells the classes of pixels, not objects" in capsys.readouterr().err
