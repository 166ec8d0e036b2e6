"""Whole pictures with one class each: a folder per class."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Literal

from datasets.findings import Findings
from datasets.readers.classes import ClassKeys, is_background
from datasets.readers.names import check_unread, ids_of
from datasets.records import Contents, Record
from datasets.spec import DatasetSpec, Part
from xdecoder.files import images_below
from xdecoder.language import vocabularies


class ClassFoldersSpec(ClassKeys, DatasetSpec):
    """A folder of pictures per class."""

    reader: Literal["class_folders"] = "class_folders"

    partial: bool = False
    """Whether a class may have no folder here, since another split has its pictures."""

    def provides(self) -> frozenset[Part]:
        return frozenset({"label", "texts"})

    def read(self, root: Path) -> Contents:
        """Records of all pictures; the class's name is also what is said of the picture, so that retrieval can learn it."""
        classes, home = self.class_names(root), root / self.images
        records, found = [], Findings()
        check_unread(home, found)
        for name in [] if self.vocabulary else [name for name in images_below(home) if "/" not in name][:1]:
            found.add("loose", f"{home / name}: lies in no class's folder, and is left out", "move it into one", fatal=False)
        for name in self.classes if isinstance(self.classes, tuple) else ():
            if is_background(name):
                what = f"{home / name}: background is no class, and its pictures are left out"
                found.add("background", what, "name what they show, such as 'other things'", fatal=False)
        folders = vocabularies.load(self.vocabulary).ids if self.vocabulary and self.label_ids else classes.names
        for label, (name, folder) in enumerate(zip(classes.names, map(str, folders), strict=True)):
            if not (home / folder).is_dir():
                if self.partial:
                    continue
                raise ValueError(f"{home / folder}: no such folder; {self.name!r} has its pictures of {name!r} there")
            names = images_below(home / folder)
            captions = (_words(name),)
            records += [
                Record(id=str(PurePosixPath(folder, key)), image=home / folder / file, captions=captions, label=label)
                for key, file in zip(ids_of(names), names, strict=True)
            ]
        return Contents(classes, records, found.told())


def _words(name: str) -> str:
    """golden_retriever → golden retriever."""
    return name.replace("_", " ").replace("-", " ")
