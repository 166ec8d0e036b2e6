"""What the doctor has to say."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

LFS_POINTER, PAGE = "is a Git LFS pointer", "an HTML page"

_ADVICE = (
    (LFS_POINTER, "fetch what it points at: run `git lfs pull` where the file comes from"),
    (PAGE, "delete it and download it again; the server sent a page (a login, a quota, a moved file)"),
    ("not valid JSON", "delete it and download it again; it is cut off or another kind of file"),
    ("data.own", "name the folder or the JSON with data.own=PATH in an experiment, and check that experiment"),
    ("data root", "name the folder that holds the data sets with --root"),
    ("no such", "download it, or make it with `python -m datasets.prepare`; --root must name the folder above all data sets"),
    ("damaged or incomplete", "fetch these files again"),
    ("is empty", "fetch it again"),
    ("its annotation says", "use the pictures that were annotated; others of the same name, or resized ones, do not fit"),
    ("but its picture is", "picture and label image must be of one size; make or fetch the labels again"),
    ("class numbers", "store class numbers as a grey or palette PNG, not colours"),
    ("holds value", "the labels are of another class list or numbering; compare with the set's classes, or convert them"),
    ("holds id", "PNG and JSON are not of one release; fetch both again"),
    ("holds no pixel of id", "PNG and JSON are not of one release; fetch both again"),
    ("neither a list of polygons nor an RLE", "mend these annotations, or leave them out of the JSON"),
    ("cover no pixel", "mend these annotations, or leave them out; they teach nothing"),
    ("expected", "check that it is the file that the official download names so"),
)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and what to do."""

    what: str
    advice: str


def finding(error: object) -> Finding:
    """A reader's sentence as a finding."""
    what = " ".join(str(error).split())
    return Finding(what, next((advice for sign, advice in _ADVICE if sign in what), "mend it as the message says"))


def grouped(sentences: Iterable[str]) -> list[Finding]:
    """One finding for all sentences that differ by names of files and numbers only: the first of them, and how many follow."""
    groups: dict[str, list[str]] = {}
    for sentence in sentences:
        groups.setdefault(re.sub(r"'[^']*'|\S*[/\\]\S*|\d+", "#", sentence), []).append(sentence)
    found = []
    for same in groups.values():
        one = finding(same[0])
        more = f" (and {len(same) - 1} more like this)" if len(same) > 1 else ""
        found.append(Finding(one.what + more, one.advice))
    return found
