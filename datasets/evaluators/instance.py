"""COCO mask average precision: overlaps by pycocotools, the rest as its COCOeval does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle
from torch import Tensor

from datasets.evaluators.average_precision import Matches, average_precision, by_score, match, precision_recall
from datasets.evaluators.evaluator import Evaluator, ImageId, Table, check_finite, check_labels, check_size, classes_of
from datasets.findings import DataError, Findings, fatal
from datasets.outlines import outline_code
from datasets.readers.classes import VocabularyKeys, numbers
from datasets.readers.coco import OBJECTS, CocoSpec, checked_outline
from datasets.readers.coco_file import Categories, File
from datasets.spec import DatasetSpec
from xdecoder.types import InstanceResult, Sample, SegmentationResult, Vocabulary

Record = tuple[tuple[int, NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]], ...]  # a label and its `Matches`, repeated


class Objects:
    """Objects of one picture by label: run lengths and areas, and which are crowds."""

    def __init__(self) -> None:
        self.codes: dict[int, list[Any]] = defaultdict(list)
        self.areas: dict[int, list[float]] = defaultdict(list)
        self.crowd: dict[int, list[bool]] = defaultdict(list)

    def add(self, label: int, code: Any, area: float, crowd: bool = False) -> None:
        self.codes[label].append(code)
        self.areas[label].append(area)
        self.crowd[label].append(crowd)


class InstanceEvaluator(Evaluator[InstanceResult | SegmentationResult, Record]):
    """AP, AP50, AP75 and AP of small (< 32² pixels), medium and large (>= 96²) objects, at most 100 a picture and class.

    With them come the average recalls AR1, AR10, AR100 of so many detections a picture, and ARs, ARm, ARl.

    Args:
        vocabulary: the classes that labels index; only things are scored.
        prefix: of the scores' names, on sets that have an AP of their own.
        annotations: an official instances JSON to take the truth from instead of the samples' segments; its image ids are the
            picture ids, its category names those of the vocabulary.
        numbers: category id -> label, for a JSON whose own names do not count.
    """

    reads = "instances"

    def __init__(
        self,
        vocabulary: Vocabulary,
        annotations: Path | None = None,
        numbers: Mapping[int, int] | None = None,
        prefix: str = "",
    ) -> None:
        super().__init__()
        self.vocabulary, self.prefix = vocabulary, prefix
        self._official = None
        if annotations is not None:
            self._official = read_annotations(File.read(annotations), vocabulary, numbers)
        self._source = annotations

    @classmethod
    def of(cls, spec: DatasetSpec, root: Path, vocabulary: Vocabulary | None) -> Self:
        classes = classes_of(spec, vocabulary)
        known = numbers(spec, len(classes)) if isinstance(spec, VocabularyKeys) and spec.vocabulary else None
        official = spec.instances if isinstance(spec, CocoSpec) else None
        prefix = "COCO_" if "cityscapes_instance" in spec.evaluators else ""
        return cls(classes, root / official if official else None, known, prefix)

    def update(self, result: InstanceResult | SegmentationResult, sample: Sample) -> None:
        """Match one picture's objects; raises ValueError where they do not fit the sample or the JSON lacks the picture."""
        objects, scores = Objects(), defaultdict(list)
        for label, found in found_objects(result, self.vocabulary, sample).items():
            for code, score in found:
                objects.add(label, code, float(rle.area(code)))
                scores[label].append(score)
        self._records[sample.id] = _matched(objects, scores, self._truth(sample))

    def compute(self) -> dict[str, float]:
        """AP, AP50, AP75, APs, APm, APl, AR1 … ARl in percent; NaN where the truth holds no such object."""
        scores, _ = average_precision(self._classes())
        return {self.prefix + name: 100.0 * value for name, value in scores.items()}

    def per_class(self) -> Table:
        """Class name -> AP in percent, for each class that is true somewhere."""
        _, classes = average_precision(self._classes())
        names = self.vocabulary.names
        return {names[label]: {f"{self.prefix}AP": 100 * ap} for label, ap in sorted(classes.items()) if ap == ap}

    def per_image(self) -> dict[ImageId, float]:
        """AP of each picture alone."""
        alone = {i: average_precision({row[0]: [Matches(*row[1:])] for row in record})[0] for i, record in self._sorted()}
        return {image: 100.0 * scores["AP"] for image, scores in alone.items() if scores["AP"] == scores["AP"]}

    def charts(self) -> dict[str, Any]:
        """At IoU 0.5, in percent: precision at each twentieth of recall, by class; what `by_score` gives, of all classes."""
        classes = self._classes()
        curves = precision_recall(classes)
        named = {self.vocabulary.names[label]: (100 * curve[::5]).round(2).tolist() for label, curve in sorted(curves.items())}
        return {"precision_recall": named, "by_score": by_score(classes)} if named else {}

    def _classes(self) -> dict[int, list[Matches]]:
        classes: dict[int, list[Matches]] = defaultdict(list)
        for _, record in self._sorted():
            for label, *arrays in record:
                classes[label].append(Matches(*arrays))
        return classes

    def _truth(self, sample: Sample) -> Objects:
        objects = Objects()
        if self._official is not None:
            if sample.id not in self._official:
                raise ValueError(f"{self._source}: holds no image with id {sample.id!r}; these are other pictures' annotations")
            for row in self._official[sample.id]:
                where = f"{self._source}: annotation {row.get('id')}"
                code = outline_code(row["segmentation"], *sample.output_size, where=where)
                area = row.get("area")
                objects.add(row["label"], code, float(rle.area(code) if area is None else area), bool(row.get("iscrowd")))
            return objects
        segments = sample.segments
        if segments is None:
            raise ValueError(f"picture {sample.id}: AP needs the sample's segments or an instances JSON")
        check_size(tuple(segments.masks.shape[1:]), sample, "the annotation")
        things = _things(segments.labels, self.vocabulary, sample, "annotated")
        for (code, area), label, crowd in zip(encode(segments.masks), things, segments.crowd.tolist(), strict=True):
            if label is not None:
                objects.add(label, code, area, crowd)
        return objects


def found_objects(
    result: InstanceResult | SegmentationResult | None, vocabulary: Vocabulary, sample: Sample
) -> dict[int, list[tuple[Any, float]]]:
    """Label -> the run lengths and the score of each thing found; raises ValueError for what does not fit the sample."""
    found = result.instances if isinstance(result, SegmentationResult) else result
    if found is None:
        raise ValueError(f"picture {sample.id}: AP needs an instance result")
    check_size(tuple(found.masks.shape[1:]), sample, "an instance mask")
    check_finite(found.scores, sample, "an instance's score")
    objects: dict[int, list[tuple[Any, float]]] = defaultdict(list)
    labels = _things(found.labels, vocabulary, sample, "predicted")
    for (code, _), label, score in zip(encode(found.masks), labels, found.scores.tolist(), strict=True):
        if label is not None:
            objects[label].append((code, score))
    return objects


def _things(labels: Tensor, vocabulary: Vocabulary, sample: Sample, whose: str) -> list[int | None]:
    """Labels with None in the place of stuff."""
    check_labels(labels.tolist(), vocabulary, sample, whose)
    return [label if vocabulary.is_thing[label] else None for label in labels.tolist()]


def _matched(found: Objects, scores: Mapping[int, list[float]], truth: Objects) -> Record:
    rows = []
    for label in sorted({*found.codes, *truth.codes}):
        found_codes, true_codes, crowd = found.codes.get(label, []), truth.codes.get(label, []), truth.crowd.get(label, [])
        overlaps = rle.iou(found_codes, true_codes, [int(flag) for flag in crowd]) if found_codes and true_codes else []
        matches = match(
            np.asarray(overlaps, dtype=np.float64).reshape(len(found_codes), len(true_codes)),
            np.array(scores.get(label, []), dtype=np.float64),
            np.array(found.areas.get(label, []), dtype=np.float64),
            np.array(truth.areas.get(label, []), dtype=np.float64),
            np.array(crowd, dtype=bool),
        )
        rows.append((label, *matches))
    return tuple(rows)


def encode(masks: Tensor) -> list[tuple[Any, float]]:
    """Run lengths and area of each of the masks (N, H, W)."""
    if not len(masks):
        return []
    # Mask by mask takes a fourth of the time of all in one array.
    columns = np.ascontiguousarray(masks.cpu().bool().numpy().transpose(0, 2, 1))
    codes = rle.encode(columns.view(np.uint8).transpose(2, 1, 0))
    return list(zip(codes, map(float, rle.area(codes)), strict=True))


def read_annotations(
    file: File, vocabulary: Vocabulary, numbers: Mapping[int, int] | None
) -> dict[int | str, list[dict[str, Any]]]:
    """An official instances JSON as image id -> its annotations, each with its `label` and its outline as readers see it.

    Raises:
        ValueError: naming the file.
    """
    path, found = file.path, Findings()
    if not file.listed:
        raise ValueError(f"{path}: expected COCO instances, but the key 'images' is missing")
    objects = file.rows(OBJECTS)
    file.check_pictures(found, strict=True)
    file.check_joins(objects, found, strict=True)
    if numbers is None:
        categories = Categories.read(file, {row["category_id"] for row in objects})
        strange = [name for name in categories.names.values() if name not in vocabulary.names]
        if strange:
            raise ValueError(f"{path}: category {strange[0]!r} is not a class of the data set")
        labels = {str(key): vocabulary.names.index(name) for key, name in categories.names.items()}
        left_out = set(map(str, categories.background))
    else:
        labels, left_out = {str(key): label for key, label in numbers.items()}, set()
    truth: dict[int | str, list[dict[str, Any]]] = {key: [] for key in file.pictures}
    for row in objects:
        label = labels.get(str(row["category_id"]))
        if label is None:
            if str(row["category_id"]) not in left_out:
                what = f"{path}: annotation {row.get('id')} names an image or a category that the file does not list"
                found.add("category", what)
            continue
        outline = checked_outline(row, file, found, vocabulary.names[label])
        if outline:
            truth[row["image_id"]].append({**row, "segmentation": outline, "label": label})
    wrong = fatal(found.told())
    if wrong:
        raise DataError(wrong)
    return truth
