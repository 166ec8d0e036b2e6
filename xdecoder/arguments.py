"""Types of arguments for argparse, which refuse in one sentence what makes no sense."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from contextlib import suppress


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number between two others."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, not {text[:80]!r}")
        return int(text)

    return parse


def number(least: float, most: float) -> Callable[[str], float]:
    """A number between two others."""

    def parse(text: str) -> float:
        with suppress(ValueError):
            if least <= float(text) <= most:  # which NaN is not
                return float(text)
        raise argparse.ArgumentTypeError(f"expected a number from {least:g} to {most:g}, not {text[:80]!r}")

    return parse
