"""Which of SEEM's lines of code a published file belongs to: its weights do not tell, its name may."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args

Version = Literal["v0", "v1", "demo"]
"""`demo` reads v0's files with tables of its own, in which all prompts speak to the object queries."""

_IN_NAME = re.compile(r"(?:^|[^a-z0-9])(v[01])(?![0-9])", re.IGNORECASE)


def version_of(path: str | Path, version: str | None = None) -> Version:
    """The version that is asked for, or else the one in the file's name.

    Raises:
        ValueError: for an unknown version, or if neither says it.
    """
    versions: dict[str, Version] = {known: known for known in get_args(Version)}
    if version is not None:
        if version not in versions:
            raise ValueError(f"unknown version {version!r} of SEEM; expected one of {', '.join(versions)}")
        return versions[version]
    found = {match.lower() for match in _IN_NAME.findall(Path(path).name)}
    if len(found) != 1:
        raise ValueError(
            f'{path}: SEEM\'s v0 and v1 files look alike inside; say which it is with version="v0" or version="v1"'
        )
    return versions[found.pop()]
