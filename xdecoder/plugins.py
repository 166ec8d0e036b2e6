"""Classes that a configuration names: our own, those of installed packages, and those of any module that can be imported."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, TypeVar

Base = TypeVar("Base")


def find(name: str, base: type[Base], ours: Mapping[str, str], group: str, what: str) -> type[Base]:
    """The class that is called `name`.

    Args:
        name: a key of `ours`, an entry point's name, or an import path, `package.module:Name`.
        base: what the class must be a subclass of.
        ours: name → import path of our own.
        group: of entry points, by which an installed package offers its classes.
        what: names the kind in messages.

    Raises:
        ValueError: if nothing is called so, it cannot be imported, or is no such class.
    """
    path = _path(name, ours, group, what)
    found = _imported(path, what)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(f"{what} {name!r}: {path} is no subclass of {base.__module__}.{base.__name__}")
    return found


def known(name: str, ours: Mapping[str, str], group: str, what: str) -> str:
    """The name, if something is called so, with nothing imported yet; raises ValueError otherwise. Arguments as for `find`."""
    _path(name, ours, group, what)
    return name


def _path(name: str, ours: Mapping[str, str], group: str, what: str) -> str:
    path = ours.get(name) or (name if ":" in name else None)
    if path is None:
        offered = {point.name: point.value for point in entry_points(group=group)}
        path = offered.get(name)
        if path is None:
            names = [*ours, *offered]
            close = difflib.get_close_matches(name, names, n=1)
            others = f"known: {', '.join(names)}, or package.module:Name" if names else "expected package.module:Name"
            hint = f"did you mean {close[0]!r}?" if close else others
            raise ValueError(f"unknown {what} {name!r}; {hint}")
    return path


def _imported(path: str, what: str) -> Any:
    module, _, attribute = path.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{what} {path!r} cannot be imported ({error}); expected package.module:Name") from None
