"""Phrases about generated scenes of which some mean nothing, in the form of gRefCOCO's list of expressions."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from datasets.shapes import COLOURS, SEEN, SHAPES, Pair
from xdecoder.files import atomic, read_json

Json = dict[str, Any]

NOTHING = [-1]  # what gRefCOCO points at where a phrase means nothing
PARTS = ("test", "fit")  # pictures of even numbers are measured on, those of odd numbers thresholds are chosen on


def write_absent(folder: Path, split: str, seed: int) -> None:
    """Write `annotations/grefs_SPLIT.json` of a generated set, unless it is there; the same seed gives the same bytes.

    Of each picture: "the COLOUR SHAPE" for every pair that it shows, meaning all things that are so (`kind` is "one" or
    "several"); one whose colour and shape are both not there ("easy"), and one whose colour and shape are there, but not
    together ("hard"), if there is such a pair among those that occur in training.
    """
    path = folder / "annotations" / f"grefs_{split}.json"
    if path.exists():
        return
    ids: dict[int, list[int]] = defaultdict(list)
    for row in read_json(folder / "annotations" / f"instances_{split}.json")["annotations"]:
        ids[row["image_id"]].append(row["id"])
    refs: list[Json] = []
    for scene in read_json(folder / "annotations" / f"scenes_{split}.json")["images"]:
        number = scene["image_id"]
        pairs = [(thing["colour"], thing["shape"]) for thing in scene["objects"]]
        asked = _present(pairs, ids[number]) + _absent(pairs, np.random.default_rng((seed, number, 2)))
        for (colour, shape), meant, kind in asked:
            text = f"the {colour} {shape}"
            sentence = {"raw": text, "sent": text, "tokens": text.split(), "sent_id": len(refs)}
            where = {"ref_id": len(refs), "image_id": number, "split": PARTS[number % 2]}
            categories = [SHAPES.index(shape) + 1 if key >= 0 else -1 for key in meant]
            refs.append({**where, "ann_id": meant, "category_id": categories, "kind": kind, "sentences": [sentence]})
    with atomic(path, "w") as file:
        file.write(json.dumps(refs, separators=(",", ":")) + "\n")


Asked = tuple[Pair, list[int], str]  # the pair, the annotations that it means, and the kind of question


def _present(pairs: list[Pair], ids: list[int]) -> list[Asked]:
    assert len(pairs) == len(ids), "every thing of a scene can be seen"
    count = Counter(pairs)
    return [
        (pair, [id for id, own in zip(ids, pairs, strict=True) if own == pair], "one" if count[pair] == 1 else "several")
        for pair in count
    ]


def _absent(pairs: list[Pair], rng: np.random.Generator) -> list[Asked]:
    colours, shapes = {colour for colour, _ in pairs}, {shape for _, shape in pairs}
    away = [(c, s) for c in COLOURS for s in SHAPES if (c, s) in SEEN and c not in colours and s not in shapes]
    apart = [(c, s) for c in COLOURS for s in SHAPES if (c, s) in SEEN and c in colours and s in shapes and (c, s) not in pairs]
    return [(pool[int(rng.integers(len(pool)))], NOTHING, kind) for pool, kind in ((away, "easy"), (apart, "hard")) if pool]
