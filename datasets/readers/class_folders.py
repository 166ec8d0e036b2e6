"""Whole pictures with one class each: a folder per class."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from datasets.readers.classes import ClassKeys
from datasets.readers.label_images import images_in
from datasets.records import Record
from datasets.spec import DatasetSpec, Part
from xdecoder.language import vocabularies
from xdecoder.types import Vocabulary


class ClassFoldersSpec(ClassKeys, DatasetSpec):
    """A folder of pictures per class."""

    reader: Literal["class_folders"] = "class_folders"

    def provides(self) -> frozenset[Part]:
        return frozenset({"label", "texts"})

    def read(self, root: Path) -> tuple[Vocabulary, list[Record]]:
        """Records of all pictures; the class's name is also what is said of the picture, so that retrieval can learn it."""
        classes, home = self.class_names(root), root / self.images
        records = []
        folders = vocabularies.load(self.vocabulary).ids if self.vocabulary and self.label_ids else classes.names
        for label, (name, folder) in enumerate(zip(classes.names, map(str, folders), strict=True)):
            if not (home / folder).is_dir():
                raise ValueError(f"{home / folder}: no such folder; {self.name!r} has its pictures of {name!r} there")
            for path in images_in(home / folder):
                records.append(Record(id=f"{folder}/{path.stem}", image=path, captions=(_words(name),), label=label))
        return classes, records


def _words(name: str) -> str:
    """golden_retriever → golden retriever."""
    return name.replace("_", " ").replace("-", " ")
