"""COCO mask average precision, computed by pycocotools."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from datasets.evaluators.evaluator import Evaluator, check_labels, check_size
from xdecoder.files import read_json
from xdecoder.types import InstanceResult, Sample, SegmentationResult, Vocabulary

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@dataclass(frozen=True)
class Instances:
    """One picture's true and found objects, as COCO annotations without ids."""

    size: tuple[int, int]
    truth: tuple[dict[str, Any], ...]
    found: tuple[dict[str, Any], ...]


class InstanceEvaluator(Evaluator[InstanceResult | SegmentationResult, Instances]):
    """AP, AP50, AP75 and AP of small (< 32² pixels), medium and large (>= 96²) objects, at most 100 a picture and class.

    Args:
        vocabulary: the classes that labels index; only things are scored.
        annotations: an official instances JSON to take the truth from instead of the samples' segments; its image ids are the
            picture ids, its category names those of the vocabulary.
    """

    def __init__(self, vocabulary: Vocabulary, annotations: Path | None = None) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self._official = None if annotations is None else _read(annotations, vocabulary)
        self._source = annotations

    def update(self, result: InstanceResult | SegmentationResult, sample: Sample) -> None:
        """Encode one picture's objects; raises ValueError where they do not fit the sample or the JSON lacks the picture."""
        found = result.instances if isinstance(result, SegmentationResult) else result
        if found is None:
            raise ValueError(f"picture {sample.id}: AP needs an instance result")
        check_size(tuple(found.masks.shape[1:]), sample, "an instance mask")
        scores = found.scores.tolist()
        encoded = zip(_encode(found.masks), self._things(found.labels, sample, "predicted"), scores, strict=True)
        kept = tuple({**mask, "category_id": label, "score": score} for mask, label, score in encoded if label is not None)
        self._records[sample.id] = Instances(sample.output_size, self._truth(sample), kept)

    def compute(self) -> dict[str, float]:
        """AP, AP50, AP75, APs, APm, APl in percent; NaN where the truth holds no such object."""
        records = [record for _, record in self._sorted()]
        if not any(record.truth for record in records):
            return dict.fromkeys(NAMES, float("nan"))
        with redirect_stdout(io.StringIO()):               # pycocotools prints its progress
            truth = self._coco([(record.size, record.truth) for record in records])
            found = self._coco([(record.size, record.found) for record in records])
            scorer = COCOeval(truth, found, "segm")
            scorer.evaluate()
            scorer.accumulate()
            scorer.summarize()
        values = scorer.stats[: len(NAMES)].tolist()       # -1 where nothing is true
        return {name: 100.0 * value if value >= 0 else float("nan") for name, value in zip(NAMES, values, strict=True)}

    def _truth(self, sample: Sample) -> tuple[dict[str, Any], ...]:
        if self._official is not None:
            if sample.id not in self._official:
                raise ValueError(f"{self._source}: holds no image with id {sample.id!r}; these are other pictures' annotations")
            return self._official[sample.id]
        segments = sample.segments
        if segments is None:
            raise ValueError(f"picture {sample.id}: AP needs the sample's segments or an instances JSON")
        check_size(tuple(segments.masks.shape[1:]), sample, "the annotation")
        things = self._things(segments.labels, sample, "annotated")
        rows = zip(_encode(segments.masks), things, segments.crowd.tolist(), strict=True)
        return tuple({**mask, "category_id": label, "iscrowd": int(crowd)} for mask, label, crowd in rows if label is not None)

    def _things(self, labels: Tensor, sample: Sample, whose: str) -> list[int | None]:
        """Labels with None in the place of stuff."""
        check_labels(labels.tolist(), self.vocabulary, sample, whose)
        return [label if self.vocabulary.is_thing[label] else None for label in labels.tolist()]

    def _coco(self, pictures: Sequence[tuple[tuple[int, int], Sequence[Mapping[str, Any]]]]) -> COCO:
        """A COCO index over pictures numbered from 1."""
        coco = COCO()
        annotations = [{"iscrowd": 0, **objects, "image_id": i} for i, (_, many) in enumerate(pictures, 1) for objects in many]
        coco.dataset = {
            "images": [{"id": i, "height": height, "width": width} for i, ((height, width), _) in enumerate(pictures, 1)],
            "annotations": [{**annotation, "id": i} for i, annotation in enumerate(annotations, 1)],   # 0 would mean "no match"
            "categories": [{"id": i} for i, thing in enumerate(self.vocabulary.is_thing) if thing],
        }
        coco.createIndex()
        return coco


def _encode(masks: Tensor) -> list[dict[str, Any]]:
    """Run lengths and areas of masks (N, H, W)."""
    if not len(masks):
        return []
    encoded = rle.encode(np.asfortranarray(masks.cpu().numpy().transpose(1, 2, 0).astype(np.uint8)))
    return [{"segmentation": mask, "area": float(area)} for mask, area in zip(encoded, rle.area(encoded), strict=True)]


def _read(path: Path, vocabulary: Vocabulary) -> dict[int | str, tuple[dict[str, Any], ...]]:
    """An official instances JSON as image id -> annotations with labels for category ids."""
    content = read_json(path)
    missing = [key for key in ("images", "annotations", "categories") if not isinstance(content, dict) or key not in content]
    if missing:
        raise ValueError(f"{path}: expected COCO instances, but the key {missing[0]!r} is missing")
    labels = {}
    for category in content["categories"]:
        if category["name"] not in vocabulary.names:
            raise ValueError(f"{path}: category {category['name']!r} is not a class of the data set")
        labels[category["id"]] = vocabulary.names.index(category["name"])
    truth: dict[int | str, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    for row in content["annotations"]:
        if row["image_id"] not in truth or row["category_id"] not in labels:
            raise ValueError(f"{path}: annotation {row.get('id')} names an image or a category that the file does not list")
        kept = {key: row[key] for key in ("segmentation", "area", "iscrowd")}
        truth[row["image_id"]].append({**kept, "category_id": labels[row["category_id"]]})
    return {image: tuple(rows) for image, rows in truth.items()}
