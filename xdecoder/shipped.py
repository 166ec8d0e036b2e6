"""The network inside the package: who is asked where nobody names one. Not every build has one."""

from __future__ import annotations

from pathlib import Path

NAME = "pocket"
FILE = Path(__file__).with_name(NAME) / f"{NAME}.safetensors"
"""Written by demo/train_pocket.py; MODEL_CARD.md beside it says what it was taught and what it cannot do."""


def path() -> Path | None:
    """Its file; None where the package has none."""
    return FILE if FILE.is_file() else None


def named_or_shipped(source: str | Path | None) -> str | Path:
    """The checkpoint that is meant: by nothing, or by its name, the one inside the package.

    Raises:
        ValueError: if nothing is named and there is none.
    """
    if source not in (None, NAME) or (source == NAME and Path(NAME).exists()):
        assert source is not None
        return source
    if (found := path()) is None:
        raise ValueError(
            "this package has no network inside; name a checkpoint's path or address, or one of `xdecoder weights`"
        )
    return found
