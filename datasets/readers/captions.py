"""Pictures with captions in one text file, as Flickr8k has them: `picture.jpg#number<TAB>caption`."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import ClassVar, Literal

from datasets.records import Contents, Record
from datasets.spec import DatasetSpec, Part
from xdecoder.files import read_lines


class CaptionsSpec(DatasetSpec):
    """A Flickr8k-style text file."""

    file_keys: ClassVar[tuple[str, ...]] = ("captions", "split")

    reader: Literal["captions"] = "captions"

    captions: str
    """The text file."""

    split: str | None = None
    """List file of the pictures' names."""

    def provides(self) -> frozenset[Part]:
        return frozenset({"captions", "texts"})

    def read(self, root: Path) -> Contents:
        """Records of the pictures that the list file names, or of all that have captions."""
        path = root / self.captions
        texts: dict[str, list[str]] = defaultdict(list)
        for number, line in enumerate(read_lines(path), start=1):
            key, tab, caption = line.partition("\t")
            if not tab or "#" not in key:
                raise ValueError(f"{path}: line {number} should read picture.jpg#number, a tab, and the caption")
            texts[key.rpartition("#")[0]].append(caption.strip())
        names = read_lines(root / self.split) if self.split else sorted(texts)
        silent = [name for name in names if name not in texts]
        if silent:
            raise ValueError(f"{path}: has no caption of {silent[0]}, which {root / str(self.split)} lists")
        return Contents(None, [Record(id=name, image=root / self.images / name, captions=tuple(texts[name])) for name in names])
