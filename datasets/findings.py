"""What is wrong with a set: told once for all that are alike, with what to do; the same to who checks, trains and measures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from xdecoder.files import FileError, printable

MEND = "mend it as the message says"

_ADVICE = {
    "missing": "download it, or make it with `python -m datasets.prepare`; --root must name the folder above all data sets",
    "damaged": "delete it and fetch it again; it is cut off or another kind of file",
    "page": "delete it and download it again; the server sent a page (a login, a quota, a moved file)",
    "encoding": "save it as UTF-8; if it is no text, fetch it again",
    "pointer": "fetch what it points at: run `git lfs pull` where the file comes from",
    "special": "put an ordinary file in its place, or leave it out",
    "large": "leave it out, or make a smaller one of it",
}
"""What to do about a file, by the kind of its error."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and what to do."""

    what: str
    advice: str = MEND
    fatal: bool = True  # nothing is learnt or measured before it is mended; otherwise the set is used without what is wrong


class DataError(ValueError):
    """What keeps a set from being used; the message is the first finding, and how many follow."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        more = f" (and {len(findings) - 1} other findings; `python -m datasets.check` tells all)" if len(findings) > 1 else ""
        super().__init__(printable(findings[0].what) + more)
        self.findings = tuple(findings)


def refuse(what: str, advice: str = MEND) -> DataError:
    """The error of one finding."""
    return DataError([Finding(what, advice)])


def advice_for(kind: str) -> str:
    """What to do about a file, by the kind of its error, such as `missing` or `damaged`."""
    return _ADVICE.get(kind, MEND)


def findings_of(error: ValueError) -> tuple[Finding, ...]:
    """What an error of a reader says, with the advice that belongs to it."""
    if isinstance(error, DataError):
        return error.findings
    advice = advice_for(error.kind) if isinstance(error, FileError) else MEND
    return (Finding(" ".join(str(error).split()), advice),)


class Findings:
    """Collects what a reader finds, by kind."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[str, str, bool, list[str | None]]] = {}

    def add(self, kind: str, what: str, advice: str = MEND, fatal: bool = True, label: str | None = None) -> None:
        """Take note of a case; of a kind only the first is told, with how many follow and of which classes."""
        self._kinds.setdefault(kind, (what, advice, fatal, []))[3].append(label)

    def told(self) -> tuple[Finding, ...]:
        """One finding a kind, those first that are fatal."""
        found = [Finding(what + _more(labels), advice, fatal) for what, advice, fatal, labels in self._kinds.values()]
        return tuple(sorted(found, key=lambda each: not each.fatal))


def _more(labels: list[str | None]) -> str:
    classes = Counter(label for label in labels if label is not None)
    if len(labels) == 1:
        return ""
    listed = [f"{count} {name}" for name, count in classes.most_common(8)]
    of = f": {', '.join(listed)}{', …' if len(classes) > 8 else ''}" if classes else ""
    return f" ({len(labels)} like this{of})"


def fatal(findings: Iterable[Finding]) -> list[Finding]:
    return [each for each in findings if each.fatal]
