"""Which number format the forward pass runs in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from xdecoder.config import ConfigError

PrecisionName = Literal["auto", "float32", "bf16", "fp16"]


@dataclass(frozen=True)
class Precision:
    """Where and in which format to compute; parameters and optimiser state stay float32.

    `dtype` is None for plain float32.
    """

    device_type: str
    dtype: torch.dtype | None

    def autocast(self) -> torch.autocast:
        """Context in which the forward pass and the losses run."""
        return torch.autocast(self.device_type, dtype=self.dtype or torch.bfloat16, enabled=self.dtype is not None)

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling: at work for fp16 only, whose gradients would underflow; otherwise passes everything through."""
        return torch.amp.GradScaler(self.device_type, enabled=self.dtype is torch.float16)


def resolve(name: PrecisionName, device: torch.device) -> Precision:
    """The precision of that name on `device`; "auto" is bf16 on a GPU that has it and float32 elsewhere.

    Raises:
        ConfigError: if the device cannot compute in it.
    """
    on_gpu = device.type == "cuda"
    has_bf16 = not on_gpu or torch.cuda.is_bf16_supported()
    if name == "fp16" and not on_gpu:
        raise ConfigError(f"trainer.precision: fp16 needs a GPU, but the device is {device.type}; use float32 or bf16")
    if name == "bf16" and not has_bf16:
        raise ConfigError("trainer.precision: this GPU has no bf16; use fp16 or float32")
    if name == "auto":
        name = "bf16" if on_gpu and has_bf16 else "float32"
    return Precision(device.type, {"bf16": torch.bfloat16, "fp16": torch.float16}.get(name))
