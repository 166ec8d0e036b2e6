"""How the published networks' tensors were written down, and the seeded weights behind those of SEEM."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

_UNIT = ("spatial_embed.weight", "spatial_featured", "pn_indicator", "backbone.pos_embed")  # plain normal numbers
_CONSTANT = ("dilation_kernel", "criterion.empty_weight")


def unpacked(record: dict[str, Any]) -> Tensor:
    """A boolean map from its packed bits."""
    bits = np.unpackbits(record["bits"].numpy(), count=math.prod(record["shape"]))
    return torch.from_numpy(bits).bool().view(*record["shape"])


def assert_close(ours: Tensor, recorded: Any, tolerance: float = 1e-4) -> None:
    """Largest difference relative to the largest value; a record may hold every k-th value along the last dimensions."""
    if isinstance(recorded, dict):
        steps = tuple(slice(None, None, step) for step in recorded["strides"])
        ours, recorded = ours[(..., *steps)], recorded["data"]
    assert ours.shape == recorded.shape
    assert ((ours - recorded).abs().max() / recorded.abs().max()).item() < tolerance


def names_of_seem(oracle: Path, network: str) -> dict[str, list]:
    """The published state dictionary's names, shapes and types."""
    return json.loads((oracle / f"seem/names/{network}.json").read_text())


def seem_weights(oracle: Path, seeded: ModuleType, network: str, part: str = "") -> dict[str, Tensor]:
    """Published names (of the part that starts so) with the values behind the recorded numbers; constants are left out."""
    weights = {}
    for name, (shape, _) in names_of_seem(oracle, network).items():
        if name.startswith(part) and name not in _CONSTANT:
            plain = any(unit in name for unit in _UNIT)
            weights[name] = _normal(name, shape) if plain else seeded.seeded_value(name, shape)
    return weights


def _normal(name: str, shape: list[int]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
