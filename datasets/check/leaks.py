"""Do two sets show the same pictures?"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from datasets.findings import Finding
from datasets.readers import Source

_COCO = re.compile(r"(?:COCO_(?:train|val|test)20\d\d_)?(\d{12})")  # 2014's and 2017's names of one photograph


class Images:
    """The pictures of one set, known by COCO's number where the name has one, and by content; packed ones are not looked at."""

    def __init__(self, source: Source) -> None:
        self.name = source.spec.name
        images = [] if source.spec.packed else [record.image for record in source.records]
        self.paths = [image for image in images if isinstance(image, Path)]

    @cached_property
    def numbers(self) -> dict[str, Path]:
        """COCO's number → picture."""
        return {match[1]: path for path in self.paths if (match := _COCO.fullmatch(path.stem))}

    @cached_property
    def sizes(self) -> dict[int, list[Path]]:
        """Bytes of the file → pictures; those of equal content are among those of equal size."""
        found: dict[int, list[Path]] = {}
        for path in self.paths:
            if path.is_file():
                found.setdefault(path.stat().st_size, []).append(path)
        return found

    def contents(self, sizes: Iterable[int]) -> dict[str, Path]:
        """Digest of the content → picture, of those that have one of the sizes."""
        return {hashlib.blake2b(path.read_bytes()).hexdigest(): path for size in sizes for path in self.sizes[size]}

    def shared_with(self, other: Images) -> list[Path]:
        """Pictures of this set that the other one has too."""
        shared = {path for number, path in self.numbers.items() if number in other.numbers}
        if len(self.numbers) < len(self.paths) or len(other.numbers) < len(other.paths):
            sizes = self.sizes.keys() & other.sizes.keys()
            theirs = other.contents(sizes)
            shared |= {path for digest, path in self.contents(sizes).items() if digest in theirs}
        return sorted(shared)


def check_leak(learnt: Images, measured: Images) -> Finding | None:
    """A finding where a set that is learnt from shows pictures of one that is measured on."""
    shared = learnt.shared_with(measured)
    if not shared:
        return None
    of = f"of the {len(measured.paths)} pictures of {measured.name}"
    return Finding(
        f"{len(shared)} {of} are in {learnt.name} too, such as {shared[0].name}",
        f"write `exclude: [{measured.name}]` into the stream that learns from {learnt.name}, or do not trust such scores",
    )
