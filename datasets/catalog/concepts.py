"""Noun phrases and all their instances, or none: SA-Co/Gold, whose files and pictures its makers hand out."""

from __future__ import annotations

from datasets.readers.saco import SacoSpec
from datasets.spec import DatasetSpec, Protocol
from xdecoder.resizing import ShortestEdge

# Of each subset its file's name, and where its pictures lie.
_SUBSETS = {
    "metaclip": ("metaclip", "metaclip-images"),
    "sa1b": ("sa1b", "sa1b-images"),
    "attributes": ("attributes", "metaclip-images"),
    "crowded": ("crowded", "metaclip-images"),
    "wiki_common": ("wiki_common", "metaclip-images"),
    "food": ("fg_food", "metaclip-images"),
    "sports": ("fg_sports_equipment", "metaclip-images"),
}


def _gold(subset: str) -> DatasetSpec:
    file, pictures = _SUBSETS[subset]
    annotators = tuple(f"saco_gold/gt-annotations/gold_{file}_merged_{who}_release_test.json" for who in "abc")
    return SacoSpec(
        name=f"saco_gold_{subset}",
        images=f"saco_gold/{pictures}",
        annotators=annotators,
        evaluators=("saco",),
        measured_with=Protocol(transform=ShortestEdge(size=512, max_size=1024), several=True),
        protocol="three annotators, of whom the one who agrees best counts; instances score 0.5 at the network's threshold",
    )


SPECS: tuple[DatasetSpec, ...] = tuple(map(_gold, _SUBSETS))
