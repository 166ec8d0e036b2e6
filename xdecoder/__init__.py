"""X-Decoder: one model that segments, refers, captions and retrieves."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xdecoder.hub import Pretrained
    from xdecoder.inference.picture import Picture
    from xdecoder.inference.predictor import Predictor, load
    from xdecoder.weights import PUBLISHED

__version__ = "0.2.0"
__all__ = ["PUBLISHED", "Picture", "Predictor", "Pretrained", "__version__", "load"]

_HOMES = {
    "PUBLISHED": "xdecoder.weights",
    "Picture": "xdecoder.inference.picture",
    "Predictor": "xdecoder.inference.predictor",
    "Pretrained": "xdecoder.hub",
    "load": "xdecoder.inference.predictor",
}


def __getattr__(name: str) -> object:
    """Each name comes when it is asked for: torch and the hub's library take their time to import."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'xdecoder' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
