"""Do captions of generated scenes name colours and shapes that are there?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Self

from datasets.evaluators.evaluator import Evaluator, percent
from datasets.evaluators.ptb import tokenise
from datasets.readers.coco import scenes_of
from datasets.shapes import COLOURS, SHAPES
from datasets.spec import DatasetSpec
from xdecoder.files import read_json
from xdecoder.types import CaptionResult, Sample, Vocabulary

ColourShape = tuple[str, str]
Named = tuple[bool, int, int]  # of one caption's pairs: is the first in the picture, how many are named, how many are there


class AttributeEvaluator(Evaluator[CaptionResult, Named]):
    """caption_pair_accuracy and caption_pair_precision.

    A pair is a colour word directly before a shape word ("a small red star").

    Args:
        scenes: JSON `{"images": [{"image_id": 1, "objects": [{"shape": "star", "colour": "red"}, ...]}, ...]}`;
            its image ids are the picture ids.
        colours, shapes: the words to look for.
    """

    def __init__(self, scenes: Path, colours: Sequence[str], shapes: Sequence[str]) -> None:
        super().__init__()
        self._scenes = scenes
        self._present = _read(scenes)
        self._colours, self._shapes = frozenset(colours), frozenset(shapes)

    @classmethod
    def of(cls, spec: DatasetSpec, root: Path, vocabulary: Vocabulary | None) -> Self:
        scenes = scenes_of(spec)
        if scenes is None:
            raise ValueError(f"data set {spec.name!r}: evaluator 'attributes' needs the key scenes")
        return cls(root / scenes, COLOURS, SHAPES)

    def update(self, result: CaptionResult, sample: Sample) -> None:
        """Look up one caption's pairs; raises ValueError for a picture that the scenes do not list."""
        if sample.id not in self._present:
            raise ValueError(f"{self._scenes}: holds no image with id {sample.id!r}; these are other pictures' scenes")
        pairs = [pair for pair in pairwise(tokenise(result.text)) if pair[0] in self._colours and pair[1] in self._shapes]
        right = [pair in self._present[sample.id] for pair in pairs]
        self._records[sample.id] = (bool(right) and right[0], len(pairs), sum(right))

    def compute(self) -> dict[str, float]:
        """In percent; NaN without pictures.

        caption_pair_accuracy: share of captions whose first pair is in the picture; one that names none is wrong.
        caption_pair_precision: share of all named pairs that are in their picture; 0 if none is named.
        """
        records = list(self._records.values())
        first_right, named, right = (sum(column) for column in zip(*records, strict=True)) if records else (0, 0, 0)
        return {
            "caption_pair_accuracy": percent(first_right, len(records)),
            "caption_pair_precision": percent(right, named or len(records)),
        }


def _read(path: Path) -> dict[int | str, frozenset[ColourShape]]:
    content = read_json(path)
    try:
        images = [(image["image_id"], image["objects"]) for image in content["images"]]
        return {id: frozenset((thing["colour"], thing["shape"]) for thing in objects) for id, objects in images}
    except (KeyError, TypeError):
        raise ValueError(f"{path}: expected scenes with images, each an image_id and objects with colour and shape") from None
