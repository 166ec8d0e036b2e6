"""An exported network says what ours says."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.export import ExportedProgram

from tests.tiny import tiny_config
from xdecoder.config import parse
from xdecoder.inference import export
from xdecoder.inference.predictor import Predictor
from xdecoder.model import XDecoder, XDecoderConfig
from xdecoder.tasks.segmentation import BACKGROUND
from xdecoder.types import Vocabulary

pytestmark = pytest.mark.slow

OTHER_PARTS = {
    "backbone": {"name": "davit", "width": 16, "depths": [1, 1, 1, 1], "head_width": 8},
    "pixel_decoder": {"name": "deformable", "width": 32, "layers": 1, "heads": 4, "hidden": 64},
}


def build(layers: int, **parts: object) -> XDecoder:
    """A network of few decoder layers, since tracing takes its time for each."""
    torch.manual_seed(0)
    config = tiny_config().model_dump(mode="json")
    config["decoder"]["layers"] = layers
    return XDecoder(parse(XDecoderConfig, config | parts)).eval()


def question(batch: int, height: int, width: int, classes: int) -> tuple[Tensor, Tensor]:
    return torch.rand(batch, 3, height, width) * 255, F.normalize(torch.randn(classes, 32), dim=-1)


def eager(model: XDecoder, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
    """Through the doors that everybody uses."""
    with torch.inference_mode():
        features = model.encode(list(images))
        rows = model.decode(features)[-1].object_and_image
        cosines = F.normalize(rows.semantic, dim=-1) @ F.normalize(texts, dim=-1).T
        return (cosines * model.language.logit_scale.exp()).softmax(-1), rows.masks(features.mask)


def onnx_answer(path: Path, images: Tensor, texts: Tensor) -> list[Tensor]:
    runtime = pytest.importorskip("onnxruntime", reason="running ONNX needs onnxruntime (pip install '.[export]')")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(array) for array in session.run(None, {"images": images.numpy(), "texts": texts.numpy()})]


def agree(found: object, wanted: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(tuple(found), wanted, rtol=0, atol=1e-4)


def need_onnx() -> None:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason=f"writing ONNX needs {package} (pip install '.[export]')")


@pytest.fixture(scope="module")
def model() -> XDecoder:
    return Predictor(build(layers=2)).model  # with all that a predictor changes of it


@pytest.fixture(scope="module")
def program(model: XDecoder) -> ExportedProgram:
    return export.trace(model)


@pytest.fixture(scope="module")
def onnx_file(program: ExportedProgram, tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_onnx()
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export.save(program, path, image_size=64)
    return path


@pytest.mark.parametrize("asked", [(2, 64, 96, 3), (3, 128, 96, 21), (1, 256, 320, 8)])
def test_onnx_runtime_gives_the_same_masks_at_any_size(onnx_file: Path, model: XDecoder, asked: tuple[int, ...]) -> None:
    images, texts = question(*asked)
    wanted = eager(model, images, texts)
    assert wanted[1].std() > 0.05 and wanted[1].shape[2:] == (asked[1] // 4, asked[2] // 4)
    agree(onnx_answer(onnx_file, images, texts), wanted)


def test_the_onnx_file_says_what_goes_in(onnx_file: Path, model: XDecoder) -> None:
    import onnx

    graph = onnx.load(onnx_file)
    onnx.checker.check_model(graph)
    assert [value.name for value in graph.graph.input] == list(export.INPUTS)
    assert [value.name for value in graph.graph.output] == list(export.OUTPUTS)
    assert {entry.key: entry.value for entry in graph.metadata_props}["xdecoder.image_size"] == "64"


def test_pt2_is_read_by_torch_alone(model: XDecoder, program: ExportedProgram, tmp_path: Path) -> None:
    export.save(program, tmp_path / "model.pt2", image_size=64)
    loaded = torch.export.load(tmp_path / "model.pt2").module()
    images, texts = question(1, 96, 64, 5)
    agree(loaded(images, texts), eager(model, images, texts))


def test_davit_and_the_deformable_pixel_decoder(tmp_path: Path) -> None:
    need_onnx()
    other = build(layers=1, **OTHER_PARTS)
    export.export(other, tmp_path / "model.onnx", size=(64, 96))  # free sides work as well, and take a minute longer
    images, texts = question(1, 64, 96, 4)
    agree(onnx_answer(tmp_path / "model.onnx", images, texts), eager(other, images, texts))


def test_the_lines_of_the_serving_page(
    root: Path, model: XDecoder, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    pytest.importorskip("onnxruntime", reason="running ONNX needs onnxruntime (pip install '.[export]')")
    export.write_classes(model, Vocabulary(("car", "sky"), (True, False)), tmp_path / "model.classes.npz")
    (tmp_path / "model.onnx").write_bytes(onnx_file.read_bytes())
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    (lines,) = re.findall(r"```python\n(.*?)```", (root / "docs/serving.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(lines, names)
    shares = ast.literal_eval(capsys.readouterr().out)
    assert sum(shares.values()) == pytest.approx(1) and set(shares) <= {"car", "sky"} and names["label_map"].size == (130, 90)


def test_the_vectors_of_a_vocabulary(model: XDecoder, tmp_path: Path) -> None:
    vocabulary = Vocabulary(("cat", "sky"), (True, False))
    export.write_classes(model, vocabulary, tmp_path / "classes.npz")
    with np.load(tmp_path / "classes.npz") as file:  # refuses pickled objects by itself
        assert file["names"].tolist() == ["cat", "sky"] and file["is_thing"].tolist() == [True, False]
        wanted = model.language.vocabulary(("cat", "sky", BACKGROUND), "ensemble")
        torch.testing.assert_close(torch.from_numpy(file["texts"]), wanted)


def test_faults_are_named(model: XDecoder, program: ExportedProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="sides are multiples of 32 from 64 to 4096, not 500 and 512"):
        export.trace(model, (500, 512))
    with pytest.raises(ValueError, match=r"model\.bin: an exported network ends in \.onnx or \.pt2"):
        export.export(model, tmp_path / "model.bin")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match=r"writing ONNX needs the package onnxscript: pip install '\.\[export"):
        export.save(program, tmp_path / "model.onnx", image_size=64)
    assert not list(tmp_path.iterdir())
