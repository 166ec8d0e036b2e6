"""Whole pictures with one class each: a folder per class."""

from __future__ import annotations

from pathlib import Path

from datasets.readers.classes import vocabulary
from datasets.readers.label_images import images_in
from datasets.spec import DatasetSpec, Record
from xdecoder.language import vocabularies
from xdecoder.types import Vocabulary


def read(spec: DatasetSpec, root: Path) -> tuple[Vocabulary, list[Record]]:
    """Records of all pictures; the class's name is also what is said of the picture, so that retrieval can learn it."""
    classes, home = vocabulary(spec, root), root / spec.images
    records = []
    folders = vocabularies.load(spec.vocabulary).ids if spec.vocabulary and spec.label_ids else classes.names
    for label, (name, folder) in enumerate(zip(classes.names, map(str, folders), strict=True)):
        if not (home / folder).is_dir():
            raise ValueError(f"{home / folder}: no such folder; data set {spec.name!r} has pictures of class {name!r} there")
        for path in images_in(home / folder):
            records.append(Record(id=f"{folder}/{path.stem}", image=path, captions=(_words(name),), label=label))
    return classes, records


def _words(name: str) -> str:
    """golden_retriever → golden retriever."""
    return name.replace("_", " ").replace("-", " ")
