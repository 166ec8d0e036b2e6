"""Export of the segmentation path for serving: `torch.export` (.pt2) and, through it, ONNX (.onnx).

Only what depends on the picture is exported. Class texts go in as vectors, so one file serves any vocabulary, and tokens,
prompts and the text encoder stay at home: `write_classes` makes the vectors of a vocabulary once. See docs/serving.md.
"""

from __future__ import annotations

import copy
import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from xdecoder.config import parse
from xdecoder.files import atomic
from xdecoder.network import Network
from xdecoder.tasks.segmentation import DESCRIPTOR, SegmentationConfig
from xdecoder.types import Vocabulary

INPUTS = ("images", "texts")
OUTPUTS = ("probabilities", "masks")
MAX_SIDE = 4096
STRIDE = 32  # sides of images are multiples of it


class SegmentationGraph(nn.Module):
    """What is exported: pictures and class texts to class probabilities and mask logits, before any threshold."""

    def __init__(self, model: Network) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """One answer per query.

        Args:
            images: (B, 3, H, W) float RGB, 0…255; H and W are multiples of 32.
            texts: (K + 1, D) class texts, that of "background" last.

        Returns:
            Probabilities (B, Q, K + 1) and mask logits (B, Q, H/4, W/4).
        """
        return self.model.graph(images, texts)


def export(model: Network, path: str | Path, size: tuple[int, int] | None = None) -> None:
    """Write the segmentation path to a .onnx or .pt2 file; batch and number of classes stay free.

    Args:
        size: height and width of all pictures; None leaves them free, which makes a larger graph.

    Raises:
        ValueError: for another ending, sides that are no multiples of 32, or where the packages for ONNX are missing.
    """
    _check_ending(Path(path))
    save(trace(model, size), path, model.config.image_size)


def save(program: ExportedProgram, path: str | Path, image_size: int) -> None:
    """Write what `trace` gave, atomically; `image_size` goes into the ONNX file's metadata. Errors as of `export`."""
    path = Path(path)
    _check_ending(path)
    content = _to_onnx(program, image_size) if path.suffix == ".onnx" else None
    with atomic(path) as file:
        if content is None:
            torch.export.save(program, file)
        else:
            file.write(content)


def trace(model: Network, size: tuple[int, int] | None = None) -> ExportedProgram:
    """The segmentation path as a graph of PyTorch operators; arguments as for `export`."""
    if size is not None and any(side % STRIDE or not 2 * STRIDE <= side <= MAX_SIDE for side in size):
        raise ValueError(f"sides are multiples of {STRIDE} from {2 * STRIDE} to {MAX_SIDE}, not {size[0]} and {size[1]}")
    height, width = size or (2 * STRIDE, 3 * STRIDE)
    example = (
        torch.zeros(2, 3, height, width, device=model.device),
        torch.ones_like(model.class_texts(["a", "b", "c"], SegmentationConfig())),
    )
    most = MAX_SIDE // STRIDE
    free = {2: STRIDE * Dim("rows", min=2, max=most), 3: STRIDE * Dim("columns", min=2, max=most)} if size is None else {}
    shapes = ({0: Dim("batch"), **free}, {0: Dim("classes", min=model.fewest_classes + 1)})
    with torch.no_grad():
        return torch.export.export(SegmentationGraph(_plain(model)).eval(), example, dynamic_shapes=shapes)


def _plain(model: Network) -> Network:
    """A copy whose weights lie in memory row by row, as files keep them; a predictor lays some out otherwise."""
    plain = copy.deepcopy(model)
    for weight in plain.parameters():
        weight.data = weight.data.contiguous()
    return plain


def write_classes(model: Network, vocabulary: Vocabulary, path: str | Path) -> None:
    """Write what an exported network needs of a vocabulary as .npz: `texts` (K + 1, D), `names` (K,) and `is_thing` (K,).

    The texts are made as they were when the network was measured.
    """
    settings = parse(SegmentationConfig, model.protocol.tasks.get(DESCRIPTOR.name, {}), "the network's protocol")
    with torch.inference_mode():
        texts = model.class_texts(vocabulary.prompts, settings).float().cpu().numpy()
    with atomic(path) as file:
        np.savez(file, texts=texts, names=np.array(vocabulary.names), is_thing=np.array(vocabulary.is_thing))


def _check_ending(path: Path) -> None:
    if path.suffix not in (".onnx", ".pt2"):
        raise ValueError(f"{path}: an exported network ends in .onnx or .pt2")


def _to_onnx(program: ExportedProgram, image_size: int) -> bytes:
    for package in ("onnx", "onnxscript"):
        try:
            importlib.import_module(package)
        except ImportError:
            raise ValueError(f"writing ONNX needs the package {package}: pip install '.[export]'") from None
    with _quiet():
        exported = torch.onnx.export(program, (), dynamo=True, verbose=False, input_names=INPUTS, output_names=OUTPUTS)
    assert exported is not None
    exported.model.metadata_props["xdecoder.image_size"] = str(image_size)
    return exported.model_proto.SerializeToString()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides what the exporter tells its own developers."""
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
