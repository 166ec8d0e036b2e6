"""Which files of a folder are meant: those of its folders too, none that are hidden, each picture by a name of its own."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from datasets.findings import Findings
from xdecoder.files import files_below, is_image, unread_below


def holds_images(folder: Path) -> bool:
    """Whether a picture lies in the folder or below it."""
    return any(map(is_image, files_below(folder)))


def check_unread(folder: Path, found: Findings) -> None:
    """Take note of pictures that are left out, since their format is not read."""
    names = unread_below(folder)
    if names:
        what = f"{folder / names[0]}: is in a format that is not read, and is left out"
        more = f" ({len(names)} like this)" if len(names) > 1 else ""
        found.add(f"{folder}: unread", what + more, "save such pictures as JPEG or PNG", fatal=False)


def ids_of(names: Sequence[str]) -> list[str]:
    """How pictures are known: by their stems, or where some are alike by their paths, if need be with the suffix."""
    for short in (lambda name: PurePosixPath(name).stem, lambda name: str(PurePosixPath(name).with_suffix(""))):
        ids = [short(name) for name in names]
        if len(set(ids)) == len(ids):
            return ids
    return list(names)


class Names:
    """The files below a folder, found also by names that differ in separators, case, %-escapes, Unicode's form or folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._there = frozenset(files_below(folder))
        self._alike: dict[str, set[str]] = {}
        for name in self._there:
            for end in _ends(_plain(name)):
                self._alike.setdefault(end, set()).add(name)

    def path(self, name: str) -> Path:
        """The one file that is meant; where none or several could be, the path as it is written."""
        if name not in self._there:
            for end in _ends(_plain(name)):
                alike = self._alike.get(end, ())
                if len(alike) == 1:
                    return self.folder / next(iter(alike))
        return self.folder / name


def _plain(name: str) -> str:
    """A name without the differences that mean nothing."""
    return unicodedata.normalize("NFC", unquote(name.replace("\\", "/"))).casefold().removeprefix("./")


def _ends(name: str) -> Iterator[str]:
    """a/b/c, b/c, c."""
    parts = name.split("/")
    return ("/".join(parts[at:]) for at in range(len(parts)))
