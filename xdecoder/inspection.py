"""What a checkpoint says of itself, told without building the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xdecoder import checkpoint
from xdecoder.files import read_json
from xdecoder.integrity import sha256

TRAINING = "xdecoder-training/"
KINDS = {"learning": ("model", "optimizer"), "progress": ("step", "consumed", "seconds", "best")}


def inspect(path: str | Path) -> dict[str, Any]:
    """Plain values on a file: its kind and digest, network, size, origin, how it is asked, and scores measured beside it.

    Raises:
        ValueError: in one sentence, for a file that is damaged or no checkpoint.
    """
    path = Path(path)
    content = checkpoint.read(path)
    found: dict[str, Any] = {"file": str(path), "bytes": path.stat().st_size, "sha256": sha256(path)}
    kind = content.get("format")
    if kind == checkpoint.FORMAT:
        found |= {"kind": "network", "format": kind, "intact": True}
        found |= {key: value for key, value in content.items() if key not in ("format", "model")}
        weights = content.get("model")
    elif isinstance(kind, str) and kind.startswith(TRAINING):
        found |= {"kind": "training state", "format": kind, "intact": True}
        found |= {key: content[key] for key in KINDS["progress"] if key in content}
        weights = content.get("model")
    else:
        found["kind"] = "somebody else's file"
        weights = next((content[key] for key in ("model", "state_dict") if isinstance(content.get(key), Mapping)), content)
    found |= _counted(weights)
    return found | _scores(path, found["sha256"])


def _counted(weights: Any) -> dict[str, Any]:
    """How many weights there are, in all and by part, of which kind, and whether all of them are finite."""
    tensors = {str(name): x for name, x in weights.items() if isinstance(x, Tensor)} if isinstance(weights, Mapping) else {}
    parts: dict[str, int] = {}
    for name, x in tensors.items():
        part = name.partition(".")[0]
        parts[part] = parts.get(part, 0) + x.numel()
    return {
        "weights": sum(parts.values()),
        "parts": parts,
        "numbers": sorted({str(x.dtype).removeprefix("torch.") for x in tensors.values()}),
        "not finite": [name for name, x in tensors.items() if not _finite(x)],
    }


def _finite(x: Tensor) -> bool:
    return not x.is_floating_point() or bool(x.to(torch.float32).isfinite().all())


def _scores(path: Path, digest: str) -> dict[str, Any]:
    """What evaluation.json in the same folder says of this very file."""
    try:
        record = read_json(path.parent / "evaluation.json")
        source = record["source"]
        return {"scores": record["results"], "measured": record.get("date")} if source.get("sha256") == digest else {}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
