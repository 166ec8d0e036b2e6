"""Parts of a network named in settings: `backbone`, `decoder.layers.0`, `language.blocks.[0-5]`, `*.cross_attention`.

A name stands for all parameters below it. It is compared component by component, between the dots, so that `backbone` is not
`backbone_proj`; within a component `*`, `?` and `[0-5]` have their meaning of file names. A pattern that begins with `*.` finds
its rest at any depth.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase

from torch import nn

from xdecoder.config import ConfigError


def lies_under(name: str, pattern: str) -> bool:
    """Whether a parameter or module of this dotted name is, or lies below, what the pattern names."""
    parts, wanted = name.split("."), pattern.split(".")
    if wanted[0] == "*" and len(wanted) > 1:
        return any(_begins(parts[depth:], wanted[1:]) for depth in range(len(parts)))
    return _begins(parts, wanted)


def _begins(parts: list[str], wanted: list[str]) -> bool:
    return len(parts) >= len(wanted) and all(fnmatchcase(part, each) for part, each in zip(parts, wanted, strict=False))


def check_patterns(model: nn.Module, patterns: Iterable[str], key: str) -> None:
    """Raises ConfigError for a pattern of the setting `key` under which no parameter lies, with the nearest module's name."""
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    for pattern in patterns:
        if not any(lies_under(name, pattern) for name in names):
            modules = [name for name, _ in model.named_modules() if name]
            close = difflib.get_close_matches(pattern, modules, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(n for n, _ in model.named_children())}"
            raise ConfigError(f"{key}: no parameter lies under {pattern!r}; {hint}")
