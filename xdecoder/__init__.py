"""X-Decoder: one model that segments, refers, captions and retrieves."""

from xdecoder.predictor import Predictor, load

__all__ = ["Predictor", "load"]
