"""Are the files of a set there, and are they what their names say?"""

from __future__ import annotations

from pathlib import Path

from datasets.check.finding import LFS_POINTER, PAGE, Finding, finding
from datasets.readers.classes import ClassKeys
from datasets.spec import DatasetSpec

_LFS = b"version https://git-lfs"


def check_files(spec: DatasetSpec, root: Path) -> list[Finding]:
    """A finding for each file or folder that is missing, empty, a Git LFS pointer or a web page."""
    if not root.is_dir() and not Path(spec.images).is_absolute():
        return [finding(f"data root {root} does not exist")]
    folders = [root / path for name in spec.folder_keys if (path := getattr(spec, name))]
    files = [root / path for name in spec.file_keys if (path := getattr(spec, name))]
    if isinstance(spec, ClassKeys) and isinstance(spec.classes, str):
        files.append(root / spec.classes)
    found = [finding(f"{path}: no such folder") for path in folders if not path.is_dir()]
    for path in files:
        wrong = impostor(path) if path.is_file() else "no such file"
        if wrong:
            found.append(finding(f"{path}: {wrong}"))
    return found


def impostor(path: Path) -> str | None:
    """What a file is if it is only a stand-in for the real one; None where nothing speaks against it."""
    with path.open("rb") as file:
        head = file.read(512).lstrip()
    if not head:
        return "is empty"
    if head.startswith(_LFS):
        return f"{LFS_POINTER}, not the file itself"
    return f"{PAGE} that was saved under this name" if head.lower().startswith((b"<!doctype", b"<html")) else None
