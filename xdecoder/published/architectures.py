"""The published networks in our terms."""

from __future__ import annotations

from typing import Any

_FOCAL_T = {
    "name": "focal",
    "width": 96,
    "depths": [2, 2, 6, 2],
    "levels": 3,
    "window": 3,
    "depthwise": True,
    "drop_path": 0.3,
}
_FOCAL_L = {
    "name": "focal",
    "width": 192,
    "depths": [2, 2, 18, 2],
    "levels": 4,
    "window": 3,
    "depthwise": False,
    "drop_path": 0.3,
}
_DAVIT_D3 = {"name": "davit", "width": 128, "depths": [1, 1, 9, 1], "kernels": [7, 2, 2, 2], "drop_path": 0.3}
_DAVIT_D5 = {"name": "davit", "width": 256, "depths": [1, 1, 9, 1], "kernels": [7, 3, 3, 3], "drop_path": 0.3}
_FPN = {"name": "fpn", "width": 512, "layers": 6, "heads": 8, "hidden": 2048}
_DEFORMABLE = {"name": "deformable", "width": 512, "layers": 6, "heads": 8, "points": 4, "hidden": 1024}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "focalt": {"backbone": _FOCAL_T, "pixel_decoder": _FPN, "decoder": {"queries": 101}},
    "focall": {"backbone": _FOCAL_L, "pixel_decoder": _FPN, "decoder": {"queries": 201}},
    "davitd3": {"backbone": _DAVIT_D3, "pixel_decoder": _FPN, "decoder": {"queries": 201}},
    "davitd3_deform": {"backbone": _DAVIT_D3, "pixel_decoder": _DEFORMABLE, "decoder": {"queries": 201}},
    "davitd5": {"backbone": _DAVIT_D5, "pixel_decoder": _FPN, "decoder": {"queries": 201}},
}
"""Settings of `XDecoderConfig` by architecture; what is left out is the same for all and stands at its default."""

_SAM_B = {"name": "sam"}
_SAM_L = {"name": "sam", "width": 1024, "heads": 16, "depth": 24, "everywhere": [5, 11, 17, 23]}

SEEM: dict[str, dict[str, Any]] = {
    "focalt": {"backbone": _FOCAL_T, "pixel_decoder": _FPN},
    "focall": {"backbone": _FOCAL_L, "pixel_decoder": _FPN},
    "davitd3": {"backbone": _DAVIT_D3, "pixel_decoder": _FPN},
    "davitd5": {"backbone": _DAVIT_D5, "pixel_decoder": _FPN},
    "samvitb": {"backbone": _SAM_B, "pixel_decoder": _DEFORMABLE},
    "samvitl": {"backbone": _SAM_L, "pixel_decoder": _DEFORMABLE},
}
"""The same of `SeemConfig`; what its versions differ in stands in `xdecoder.seem.tables.VERSIONS`."""
