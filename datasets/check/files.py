"""Are the files of a set there, and are they what their names say?"""

from __future__ import annotations

from pathlib import Path

from datasets.findings import Finding, advice_for, findings_of
from datasets.readers.classes import ClassKeys
from datasets.spec import DatasetSpec
from xdecoder.files import regular

_LFS = b"version https://git-lfs"


def check_files(spec: DatasetSpec, root: Path) -> list[Finding]:
    """A finding for each file or folder that is missing, empty, a Git LFS pointer or a web page."""
    if not root.is_dir() and not Path(spec.images).is_absolute():
        return [Finding(f"data root {root} does not exist", "name the folder that holds the data sets with --root")]
    folders = [root / path for name in spec.folder_keys if (path := getattr(spec, name))]
    files = [root / path for name in spec.file_keys if (path := getattr(spec, name))]
    if isinstance(spec, ClassKeys) and isinstance(spec.classes, str):
        files.append(root / spec.classes)
    found = [Finding(f"{path}: no such folder", advice_for("missing")) for path in folders if not path.is_dir()]
    for path in files:
        try:
            wrong = impostor(regular(path))
        except ValueError as error:
            wrong = findings_of(error)[0]
        found += [wrong] if wrong else []
    return found


def impostor(path: Path) -> Finding | None:
    """What a file is if it is only a stand-in for the real one; None where nothing speaks against it."""
    with path.open("rb") as file:
        head = file.read(512).lstrip()
    if not head:
        return Finding(f"{path}: is empty", "fetch it again")
    if head.startswith(_LFS):
        return Finding(f"{path}: is a Git LFS pointer, not the file itself", advice_for("pointer"))
    if head.lower().startswith((b"<!doctype", b"<html")):
        return Finding(f"{path}: an HTML page that was saved under this name", advice_for("page"))
    return None
