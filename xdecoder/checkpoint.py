"""Load and save a network. A file holds its architecture, so loading needs nothing else."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from xdecoder.config import ConfigError, parse
from xdecoder.files import atomic
from xdecoder.model import XDecoder, XDecoderConfig

FORMAT = "xdecoder/1"


def save(model: XDecoder, path: str | Path) -> None:
    """Write weights and architecture, atomically."""
    content = {"format": FORMAT, "config": model.config.model_dump(mode="json"), "model": model.state_dict()}
    with atomic(path) as file:
        torch.save(content, file)


def load(path: str | Path, device: torch.device | str = "cpu") -> XDecoder:
    """The network in a file written by `save`, in evaluation mode.

    Raises:
        ValueError: for a file that is missing, truncated, not a checkpoint, unsafe to read or of another architecture.
    """
    content = read(path)
    if content.get("format") != FORMAT:
        raise ValueError(f"{path}: not an X-Decoder checkpoint (expected format {FORMAT!r}, found {content.get('format')!r})")
    try:
        model = XDecoder(parse(XDecoderConfig, content["config"], where=str(path)))
    except ConfigError as error:
        raise ValueError(f"{error}; the checkpoint was written by another version") from None
    fill(model, content["model"], path)
    return model.to(device).eval()


def read(path: str | Path) -> dict[str, Any]:
    """The dictionary in a torch file, read as data only (never unpickled code); raises ValueError naming the file."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such checkpoint")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")      # torch muses about pickle versions of files that are refused anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(f"{path}: refused, it holds more than tensors and plain values (or is no checkpoint)") from None
    except (RuntimeError, EOFError, zipfile.BadZipFile, OSError, ValueError, KeyError, AttributeError):
        raise ValueError(f"{path}: truncated or not a checkpoint") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a dictionary, found {type(content).__name__}")
    return content


def fill(model: torch.nn.Module, weights: dict[str, torch.Tensor], path: str | Path) -> None:
    """Load `weights` into `model`; every name and shape must agree, else ValueError says how many do not and names one."""
    own = model.state_dict()
    missing = [name for name in own if name not in weights]
    unused = [name for name in weights if name not in own]
    different = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    if missing or unused or different:
        first = (different or missing or unused)[0]
        raise ValueError(
            f"{path}: checkpoint of another architecture ({len(missing)} weights missing, {len(unused)} unknown, "
            f"{len(different)} of another shape; for example {first!r})"
        )
    model.load_state_dict(weights)
