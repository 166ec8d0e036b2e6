"""What others add from outside the repository: classes named by their import path, such as `my_package.networks:TinyConfig`."""

from __future__ import annotations

import importlib
from typing import Any, TypeVar

Kind = TypeVar("Kind")


def imported(path: str, kind: type[Kind]) -> type[Kind]:
    """The class that an import path names.

    Args:
        path: `package.module:Name`. The module is imported, so paths come from experiments, never from checkpoints' content
            alone: see `xdecoder.checkpoint`.
        kind: what the class must derive from.

    Raises:
        ValueError: in one sentence, if there is no such module or name, or it is something else.
    """
    module, _, name = path.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise ValueError(f"{path!r}: cannot be imported ({error})") from None
    except AttributeError:
        raise ValueError(f"{path!r}: module {module} has no {name!r}") from None
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise ValueError(f"{path!r}: expected a class derived from {kind.__module__}.{kind.__name__}")
    return found
