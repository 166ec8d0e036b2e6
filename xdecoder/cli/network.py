"""The network that a command line names."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from xdecoder import shipped

if TYPE_CHECKING:
    from xdecoder.inference.predictor import Predictor


def load(options: argparse.Namespace) -> Predictor:
    import torch

    import xdecoder

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device = options.device or ("cuda" if gpus else "cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ValueError("--device mps: this is no Mac with Apple's GPU; try cpu")
    if device.startswith("cuda") and int(device.partition(":")[2] or 0) >= gpus:
        raise ValueError(
            f"--device {device}: there {'is 1 usable GPU' if gpus == 1 else f'are {gpus} usable GPUs'} here; try cpu"
        )
    half = torch.bfloat16 if device == "cpu" else torch.float16
    dtype = half if options.half else torch.float32
    if options.checkpoint is None:
        print(f"asking {shipped.NAME}, the network inside the package", file=sys.stderr)
    model = xdecoder.load(options.checkpoint, device, dtype, allow_nonfinite=options.allow_nonfinite)
    if model.limits:
        print(f"note: {model.limits}", file=sys.stderr)
    return model
