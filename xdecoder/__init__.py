"""X-Decoder: one model that segments, refers, captions and retrieves."""

from xdecoder.predictor import Predictor, load

__all__ = ["Predictor", "PretrainedXDecoder", "load"]


def __getattr__(name: str) -> object:
    """`PretrainedXDecoder`, whose hub library takes its time to import, comes when it is asked for."""
    if name == "PretrainedXDecoder":
        from xdecoder.hub import PretrainedXDecoder

        return PretrainedXDecoder
    raise AttributeError(f"module 'xdecoder' has no attribute {name!r}")
