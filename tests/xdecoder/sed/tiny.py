"""A SED small enough for tests; the architecture is the real one."""

from __future__ import annotations

import torch

from xdecoder.config import parse
from xdecoder.sed.model import Sed, SedConfig

SETTINGS = {
    "name": "sed",
    "clip": {"trunk": "test_convnext", "joint_width": 24, "text_width": 64, "text_layers": 1, "merges": 20},
    "decoder": {"width": 16, "widths": [16, 8, 8], "skip_widths": [8, 4, 4], "heads": 2, "kernel": 3},
    "templates": "single",
    "resolution": 64,
    "image_size": 64,
}


def tiny_sed(**changes: object) -> Sed:
    torch.manual_seed(0)
    return Sed(parse(SedConfig, {**SETTINGS, **changes})).eval()
