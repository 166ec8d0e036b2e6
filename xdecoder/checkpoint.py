"""Load and save a network. A file holds its architecture, so loading needs nothing else."""

from __future__ import annotations

import json
import logging
import pickle
import sys
import warnings
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor
from torch.overrides import TorchFunctionMode

from xdecoder.config import ConfigError, parse
from xdecoder.files import atomic, regular, shown
from xdecoder.integrity import check_zip, digest_of
from xdecoder.limits import check_archive, check_plain, check_sizes, check_weights
from xdecoder.network import Network, NetworkConfig
from xdecoder.protocol import Protocol

FORMAT = "xdecoder/2"
OLDER = ("xdecoder/1",)
DIGEST = "digest"
"""In a safetensors file: of all that is in it. A torch file has checksums of its own."""

_FILLING = ("normal_", "uniform_")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """What is needed to make a network: its architecture and its weights under our names."""

    config: NetworkConfig
    weights: dict[str, Tensor]
    path: Path
    protocol: Protocol = field(default_factory=Protocol)
    """How the network is to be asked."""
    inferred: bool = False
    """Whether the architecture was told from shapes, which do not tell all of it (such as the number of attention heads)."""

    def build(self, device: torch.device | str = "cpu", allow_nonfinite: bool = False) -> Network:
        """The network, in evaluation mode, made of these weights themselves: no copy is made of those that fit as they are.

        Raises:
            ValueError: where weights and architecture do not agree (see `fill`).
        """
        fits(outline(self.config, self.path), self.weights, self.path)  # before memory is asked for
        with _Blank():
            model = self.config.empty()
        _take(model, self.weights, self.path, allow_nonfinite)
        model.protocol = self.protocol
        return model.to(device).eval()


def save(
    model: Network,
    path: str | Path,
    weights: Mapping[str, Tensor] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Write weights, architecture and protocol, atomically; a path that ends in .safetensors gets that format.

    Args:
        weights: in the names and shapes of the network's `state_dict`; by default its own.
        origin: where the network comes from, as plain values; `xdecoder inspect` tells it.
    """
    weights = model.state_dict() if weights is None else dict(weights)
    about: dict[str, Any] = {"config": model.config.model_dump(mode="json")}
    about |= {"protocol": model.protocol.model_dump(mode="json")} | ({"origin": dict(origin)} if origin else {})
    write({"format": FORMAT, **about, "model": weights}, path)


def load(path: str | Path, device: torch.device | str = "cpu") -> Network:
    """The network in a file written by `save`, in evaluation mode.

    Raises:
        ValueError: for a file that is missing, damaged, not a checkpoint, unsafe to read or of another architecture.
    """
    return interpret(read(path), path).build(device)


def interpret(content: dict[str, Any], path: str | Path) -> Checkpoint:
    """What `read` found in one of our files; raises ValueError for other files."""
    found = content.get("format")
    if isinstance(found, str) and found in OLDER:
        reason = "which does not say how its network is to be asked; train it again"
        raise ValueError(f"{path}: a checkpoint of an older format ({found}; this is {FORMAT}), {reason}")
    if found != FORMAT:
        raise ValueError(f"{path}: not an X-Decoder checkpoint (expected format {FORMAT!r}, found {shown(found)})")
    if not isinstance(content.get("config"), dict) or not isinstance(content.get("model"), dict):
        raise ValueError(f"{path}: not a whole checkpoint, its 'config' or its 'model' is missing or not a mapping")
    asked = content.get("protocol", {})
    check_plain([content["config"], asked], str(path))
    name = content["config"].get("name", "")
    module = str(name).partition(":")[0]
    if ":" in str(name) and module not in sys.modules:  # a file may not choose what is imported
        raise ValueError(f"{path}: holds a network from outside, {shown(name)}; import {module} before you load it")
    try:
        config = parse(NetworkConfig, content["config"], where=str(path))
        protocol = parse(Protocol, asked, where=f"{path}, protocol")
    except ConfigError as error:
        raise ValueError(f"{error}; the checkpoint was written by another version") from None
    weights = unwrapped(content["model"])
    check_weights(weights, path)
    check_sizes(config, str(path), layers=len(weights))
    return Checkpoint(config, weights, Path(path), protocol)


def unwrapped(weights: Mapping[Any, Any]) -> dict[Any, Any]:
    """The weights without what DistributedDataParallel or torch.compile put before all names."""
    for prefix in ("module.", "_orig_mod."):
        if weights and all(isinstance(name, str) and name.startswith(prefix) for name in weights):
            return unwrapped({name.removeprefix(prefix): value for name, value in weights.items()})
    return dict(weights)


def write(content: dict[str, Any], path: str | Path) -> None:
    """Write a dictionary as `read` gives it, atomically. A .safetensors file keeps what is not a tensor as JSON."""
    if Path(path).suffix != ".safetensors":
        with atomic(path) as file:
            torch.save(content, file)
        return
    weights = {name: value.detach().cpu().contiguous() for name, value in content["model"].items()}
    metadata = {"format": "pt"}  # what other readers look for
    metadata |= {name: json.dumps(value) for name, value in content.items() if name not in ("model", "format")}
    if "format" in content:
        metadata["xdecoder"] = content["format"]
    metadata[DIGEST] = digest_of(weights, metadata)
    with atomic(path) as file:
        file.write(to_safetensors(weights, metadata))


def read(path: str | Path) -> dict[str, Any]:
    """The dictionary in a torch or safetensors file, read as data only (never unpickled code).

    A file of ours that was damaged since it was written is refused. One of somebody else's, whose checksums may have been left
    out, is read with a warning.

    Raises:
        ValueError: in one sentence that names the file.
    """
    path = regular(path, "checkpoint")
    with open(path, "rb") as file:
        if file.read(64).lstrip().lower().startswith((b"<!doctype", b"<html")):
            raise ValueError(f"{path}: a web page, not weights; the address of the file itself says resolve rather than blob")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch_and_compare(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a dictionary, found {type(content).__name__}")
    return content


def _read_torch_and_compare(path: Path) -> Any:
    """The content of a torch file, whose checksums are compared meanwhile."""
    with ThreadPoolExecutor(1) as beside:
        compared = beside.submit(_fault_of, path)
        content = _read_torch(path)
    fault = compared.result()
    if fault and isinstance(content, dict) and "format" in content:  # one of ours
        raise ValueError(fault)
    if fault and zipfile.is_zipfile(path):  # torch's format of before 2020 has no checksums
        logger.warning("%s; read nevertheless, as it is not one of ours", fault)
    return content


def _fault_of(path: Path) -> str:
    try:
        check_zip(path)
    except ValueError as error:
        return str(error)
    return ""


def _read_torch(path: Path) -> Any:
    check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch muses about pickle versions of files that are refused anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(f"{path}: refused, it holds more than tensors and plain values (or is no checkpoint)") from None
    except Exception:  # what torch stumbles over in a damaged file is of every kind
        raise ValueError(f"{path}: truncated or not a checkpoint") from None


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            # Copied, since they lie in the file as it came: where an address is odd, a product's last bits are others.
            content: dict[str, Any] = {"model": {name: file.get_tensor(name).clone() for name in file.keys()}}  # noqa: SIM118
        intact = metadata.pop(DIGEST, None) in (None, digest_of(content["model"], metadata))
        if intact and "xdecoder" in metadata:
            content["format"] = metadata.pop("xdecoder")
            content |= {name: json.loads(value) for name, value in metadata.items() if name != "format"}
    except Exception:  # as above
        raise ValueError(f"{path}: truncated or not a safetensors file") from None
    if not intact:
        raise ValueError(f"{path}: damaged, its content does not match its checksum")
    return content


class _Blank(TorchFunctionMode):
    """Leaves out what fills parameters with random numbers, where they will be overwritten. On the meta device there is nothing
    to fill, and the attempt makes torch import its compiler, which takes a second."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _FILLING:
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta or isinstance(tensor, torch.nn.Parameter):
                return tensor
        return func(*args, **(kwargs or {}))


def outline(config: NetworkConfig, path: str | Path) -> dict[str, Tensor]:
    """The network's weights, in name and shape only; raises ValueError naming `path` if it cannot be built."""
    try:
        with torch.device("meta"), _Blank():
            return config.empty().state_dict()
    except Exception as error:  # of every kind, since each part says in its own words what it cannot be
        raise ValueError(f"{path}: its architecture cannot be built ({' '.join(str(error).split())[:200]})") from None


def fits(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Compare names and shapes with a network's own; ValueError says how many do not agree and names one."""
    missing = [name for name in own if name not in weights]
    unused = [name for name in weights if name not in own]
    different = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    if missing or unused or different:
        first = (different or missing or unused)[0]
        raise ValueError(
            f"{path}: checkpoint of another architecture ({len(missing)} weights missing, {len(unused)} unknown, "
            f"{len(different)} of another shape; for example {shown(first)})"
        )


def fill(model: torch.nn.Module, weights: dict[str, Tensor], path: str | Path, allow_nonfinite: bool = False) -> None:
    """Load `weights` into `model`; every name, shape and kind of number must agree.

    Args:
        allow_nonfinite: take weights that are infinite or not a number, to look into how they came about.

    Raises:
        ValueError: naming a weight that does not fit, and how many there are.
    """
    own = model.state_dict()
    fits(own, weights, path)
    check_numbers(weights, own, path, allow_nonfinite)
    model.load_state_dict(weights)


def _take(model: torch.nn.Module, weights: dict[str, Tensor], path: Path, allow_nonfinite: bool) -> None:
    """As `fill`, but weights become the network's own where they can: nothing is copied."""
    own, seen = model.state_dict(), set[int]()
    fits(own, weights, path)
    check_numbers(weights, own, path, allow_nonfinite)
    tied = len(list(model.named_parameters(remove_duplicate=False))) > len(list(model.parameters()))
    if not tied:  # a weight of two names must stay one, and is copied
        weights = {name: _alone(value.to(own[name].dtype), seen) for name, value in weights.items()}
    model.load_state_dict(weights, assign=not tied)


def _alone(value: Tensor, seen: set[int]) -> Tensor:
    """The tensor, or a copy if it shares its memory with others, as parts of a fused weight do; `seen`: what is taken."""
    memory = value.untyped_storage()
    shared = memory.nbytes() != value.numel() * value.element_size() or memory.data_ptr() in seen
    seen.add(memory.data_ptr())
    return value.clone(memory_format=torch.contiguous_format) if shared or not value.is_contiguous() else value


def check_numbers(
    weights: Mapping[str, Tensor], own: Mapping[str, Tensor], path: str | Path, allow_nonfinite: bool = False
) -> None:
    """Raises ValueError naming the first of `weights`, of any shape, that is not finite or of another kind than in `own`."""
    for name, value in weights.items():
        if value.is_complex() or value.is_floating_point() != own[name].is_floating_point():
            raise ValueError(f"{path}: weight {name!r} holds {_kind(value)} where the network has {_kind(own[name])}")
        # A sum shows it at a fraction of the time; one that is too large itself says nothing.
        if not allow_nonfinite and not value.sum().isfinite() and not value.float().isfinite().all():
            raise ValueError(
                f"{path}: weight {name!r} is not finite (NaN or infinite), so that the network would answer nothing; "
                "allow_nonfinite loads it nevertheless"
            )


def _kind(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
