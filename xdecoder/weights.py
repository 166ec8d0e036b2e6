"""The published networks by name: `xdecoder.load("focal-t")` fetches one, `xdecoder weights` lists them.

What is said of a file is what its authors say; none of it was measured here, and nobody here has downloaded one.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from xdecoder import shipped
from xdecoder.files import shown

HUB = "https://huggingface.co"
UNKNOWN = "unknown"
_HEAD = ("name", "backbone", "million weights", "can do", "published", "licence", "on this disk")


@dataclass(frozen=True)
class Weights:
    """One published file."""

    name: str
    repository: str
    file: str
    backbone: str
    queries: int
    millions: int
    """Of weights, as our own networks count them; the files' sizes were never seen here."""
    tasks: str
    numbers: str
    """As published; COCO PQ / AP / mIoU unless they say otherwise."""
    licence: str = UNKNOWN
    """Of the weights, not of the code that made them; what nobody here has read on the page is unknown."""

    @property
    def address(self) -> str:
        """Where a browser fetches it."""
        return f"{HUB}/{self.repository}/resolve/main/{self.file}"

    @property
    def page(self) -> str:
        """Where its authors describe it, and its licence if anywhere."""
        return f"{HUB}/{self.repository}"


_TASKS = "segmentation, referring, captions, retrieval"
_CLICKS = "segmentation, referring, clicks and strokes"
_X = "xdecoder/X-Decoder"
_S = "xdecoder/SEEM"

PUBLISHED = {
    each.name: each
    for each in (
        Weights(
            "focal-t", _X, "xdecoder_focalt_last.pt", "Focal-T", 101, 164, _TASKS, "50.8 / 39.5 / 62.4; RefCOCOg cIoU 57.6"
        ),
        Weights(
            "focal-t-openseg", _X, "xdecoder_focalt_best_openseg.pt", "Focal-T", 101, 164, _TASKS, "ADE 19.1 / 10.1 / 25.1"
        ),
        Weights("focal-t-captions", _X, "xdecoder_focalt_last_novg.pt", "Focal-T", 101, 164, _TASKS, "without Visual Genome"),
        Weights(
            "focal-l", _X, "xdecoder_focall_last.pt", "Focal-L", 201, 342, _TASKS, "56.5 / 46.7 / 67.2; RefCOCOg cIoU 62.8"
        ),
        Weights("focal-l-openseg", _X, "xdecoder_focall_bestseg.pt", "Focal-L", 201, 342, _TASKS, UNKNOWN),
        Weights("focal-l-q101", _X, "xdecoder_focall_last_oq101.pt", "Focal-L", 101, 341, _TASKS, "what SEEM-L began with"),
        Weights("seem-focal-t-v0", _S, "seem_focalt_v0.pt", "Focal-T", 101, 165, _CLICKS, "50.6 / 39.4 / 60.9; VOC NoC85 3.54"),
        Weights("seem-focal-t", _S, "seem_focalt_v1.pt", "Focal-T", 101, 165, _CLICKS, "50.8 / 39.4 / 60.7; VOC NoC85 3.19"),
        Weights("seem-focal-l-v0", _S, "seem_focall_v0.pt", "Focal-L", 101, 341, _CLICKS, "56.2 / 46.4 / 65.5; VOC NoC85 3.04"),
        Weights("seem-focal-l", _S, "seem_focall_v1.pt", "Focal-L", 101, 341, _CLICKS, "56.1 / 46.3 / 65.8; VOC NoC85 2.66"),
        Weights("seem-sam-b", _S, "seem_samvitb_v1.pt", "SAM ViT-B", 101, 216, _CLICKS, "52.0 / 43.5 / 60.2; VOC NoC85 2.53"),
        Weights("seem-sam-l", _S, "seem_samvitl_v1.pt", "SAM ViT-L", 101, 441, _CLICKS, "49.0 / 41.6 / 58.2; VOC NoC85 2.40"),
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
    """A table of the published files, as text: names, sizes, what they can do and may be used for, what is on this disk."""
    from xdecoder.download import at_hand

    rows = [_HEAD]
    for each in PUBLISHED.values():
        path = at_hand(each)
        size = f"{path.stat().st_size / 1e6:.0f} MB" if path else "no"
        rows.append((each.name, each.backbone, str(each.millions), each.tasks, each.numbers, each.licence, size))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", *_notes()])


def _notes() -> list[str]:
    """What stands below the table."""
    pages = dict.fromkeys(each.page for each in PUBLISHED.values())
    inside = []
    if own := shipped.path():
        inside = [
            f"{shipped.NAME}: {own.stat().st_size / 1e6:.0f} MB inside this package, asked where no other is named;",
            f"its tasks, its scores and the licences of what it learnt from are in {own.with_name('MODEL_CARD.md')}",
            "",
        ]
    return [
        *inside,
        "Published: COCO PQ / AP / mIoU, as the authors give them. A million weights are 4 MB to fetch.",
        "Licence: of the weights. None of these was ever fetched here; where it is unknown, read the authors' page before use:",
        *(f"  {page}" for page in pages),
    ]
