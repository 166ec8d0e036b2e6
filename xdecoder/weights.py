"""The published networks by name: `xdecoder.load("focal-t")` fetches one, `xdecoder weights` lists them.

What is said of a file is what its authors say; none of it was measured here, and nobody here has downloaded one.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from xdecoder.files import shown

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Weights:
    """One published file."""

    name: str
    repository: str
    file: str
    backbone: str
    queries: int
    tasks: str
    numbers: str  # published, COCO PQ / AP / mIoU unless they say otherwise

    @property
    def address(self) -> str:
        """Where a browser fetches it."""
        return f"{HUB}/{self.repository}/resolve/main/{self.file}"

    @property
    def page(self) -> str:
        """Where its authors describe it and name its licence."""
        return f"{HUB}/{self.repository}"


_TASKS = "segmentation, referring, captions, retrieval"
_CLICKS = "segmentation, referring, clicks and strokes"
_X = "xdecoder/X-Decoder"
_S = "xdecoder/SEEM"

PUBLISHED = {
    each.name: each
    for each in (
        Weights("focal-t", _X, "xdecoder_focalt_last.pt", "Focal-T", 101, _TASKS, "50.8 / 39.5 / 62.4; RefCOCOg cIoU 57.6"),
        Weights("focal-t-openseg", _X, "xdecoder_focalt_best_openseg.pt", "Focal-T", 101, _TASKS, "ADE 19.1 / 10.1 / 25.1"),
        Weights("focal-t-captions", _X, "xdecoder_focalt_last_novg.pt", "Focal-T", 101, _TASKS, "without Visual Genome"),
        Weights("focal-l", _X, "xdecoder_focall_last.pt", "Focal-L", 201, _TASKS, "56.5 / 46.7 / 67.2; RefCOCOg cIoU 62.8"),
        Weights("focal-l-openseg", _X, "xdecoder_focall_bestseg.pt", "Focal-L", 201, _TASKS, ""),
        Weights("focal-l-q101", _X, "xdecoder_focall_last_oq101.pt", "Focal-L", 101, _TASKS, "what SEEM-L began with"),
        Weights("seem-focal-t-v0", _S, "seem_focalt_v0.pt", "Focal-T", 101, _CLICKS, "50.6 / 39.4 / 60.9; VOC NoC85 3.54"),
        Weights("seem-focal-t", _S, "seem_focalt_v1.pt", "Focal-T", 101, _CLICKS, "50.8 / 39.4 / 60.7; VOC NoC85 3.19"),
        Weights("seem-focal-l-v0", _S, "seem_focall_v0.pt", "Focal-L", 101, _CLICKS, "56.2 / 46.4 / 65.5; VOC NoC85 3.04"),
        Weights("seem-focal-l", _S, "seem_focall_v1.pt", "Focal-L", 101, _CLICKS, "56.1 / 46.3 / 65.8; VOC NoC85 2.66"),
        Weights("seem-sam-b", _S, "seem_samvitb_v1.pt", "SAM ViT-B", 101, _CLICKS, "52.0 / 43.5 / 60.2; VOC NoC85 2.53"),
        Weights("seem-sam-l", _S, "seem_samvitl_v1.pt", "SAM ViT-L", 101, _CLICKS, "49.0 / 41.6 / 58.2; VOC NoC85 2.40"),
    )
}
"""Sources: the projects' README files and the tables in their papers."""


def named(source: str | Path) -> Weights | None:
    """The published file of that name; None for everything that looks like a path or is one.

    Raises:
        ValueError: for a word that is nearly a name, and no path.
    """
    word = str(source)
    if word in PUBLISHED and not Path(word).exists():
        return PUBLISHED[word]
    if "/" in word or "\\" in word or "." in word or Path(word).exists():
        return None
    close = difflib.get_close_matches(word, PUBLISHED, n=1)
    hint = f"did you mean {close[0]!r}?" if close else "`xdecoder weights` lists the published names"
    raise ValueError(f"{word if word.isprintable() else shown(word)}: no such checkpoint; {hint}")


def listing() -> str:
    """A table of the published files, as text: names, what they can do, what is on this disk."""
    from xdecoder.download import at_hand

    rows = [("name", "backbone", "queries", "can do", "published", "on this disk")]
    for each in PUBLISHED.values():
        path = at_hand(each)
        size = f"{path.stat().st_size / 1e6:.0f} MB" if path else "no"
        rows.append((each.name, each.backbone, str(each.queries), each.tasks, each.numbers, size))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    pages = dict.fromkeys(each.page for each in PUBLISHED.values())
    notes = [
        "",
        "Numbers: COCO PQ / AP / mIoU, as their authors give them; licences stand on the pages:",
        *(f"  {page}" for page in pages),
    ]
    return "\n".join(lines + notes)
