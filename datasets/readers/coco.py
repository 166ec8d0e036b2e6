"""COCO's JSONs: panoptic, instances, captions, and referring expressions in RefCOCO's merged form.

Formats: https://cocodataset.org/#format-data and https://github.com/lichengunc/refer.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pycocotools import mask as rle
from pydantic import model_validator

from datasets.readers.classes import LabelImageKeys, VocabularyKeys, numbers, renamed
from datasets.records import Record, Reference, Region
from datasets.spec import DatasetSpec, Part, Rename, needs
from xdecoder.files import read_json
from xdecoder.language import vocabularies
from xdecoder.types import Vocabulary

Json = dict[str, Any]
KINDS = ("panoptic", "instances", "phrases", "captions")


class CocoSpec(LabelImageKeys, VocabularyKeys, DatasetSpec):
    """COCO-style JSONs: at least one of panoptic, instances, phrases and captions."""

    file_keys: ClassVar[tuple[str, ...]] = (*KINDS, "scenes")
    folder_keys: ClassVar[tuple[str, ...]] = ("images", "panoptic_images", "labels")

    reader: Literal["coco"] = "coco"

    panoptic: str | None = None
    """COCO panoptic JSON."""

    panoptic_images: str | None = None
    """Folder of the panoptic PNGs (id = R + 256 G + 65536 B)."""

    instances: str | None = None
    """COCO instances JSON. Beside a panoptic JSON it serves the instance evaluator only."""

    phrases: str | None = None
    """RefCOCO-style JSON: objects with their sentences."""

    captions: str | None = None
    """COCO captions JSON."""

    scenes: str | None = None
    """JSON of the attributes of each object (generated sets only), for the attribute evaluator."""

    image_rename: Rename = ()
    """How a picture's path in `images` follows from what the JSON calls it (panoptic sets: its PNG)."""

    @model_validator(mode="after")
    def _check(self) -> CocoSpec:
        needs(self, *KINDS)
        if bool(self.panoptic) != bool(self.panoptic_images):
            raise ValueError(f"data set {self.name!r}: panoptic and panoptic_images come together")
        return self

    def provides(self) -> frozenset[Part]:
        parts: dict[Part, object] = {
            "regions": self.panoptic or self.instances,
            "references": self.phrases,
            "captions": self.captions,
            "texts": self.captions,
        }
        return frozenset(part for part, there in parts.items() if there)

    def read(self, root: Path) -> tuple[Vocabulary | None, list[Record]]:
        """Records of all pictures that the JSONs list, in the order of the first of panoptic, instances, phrases, captions.

        Labels are the positions of the category ids in ascending order, from the JSON itself, unless a vocabulary is named.
        """
        paths = {kind: root / name for kind in KINDS if (name := getattr(self, kind))}
        if "panoptic" in paths:
            paths.pop("instances", None)  # these serve the evaluator, which reads them itself
        files = {kind: _read(path) for kind, path in paths.items()}
        main = next(iter(files))
        vocabulary: Vocabulary | None = None
        regions: dict[Any, tuple[Region, ...]] | None = None
        maps: dict[Any, Path] = {}
        if main in ("panoptic", "instances"):
            vocabulary, label_of = _classes(self, files[main], paths[main])
            if main == "panoptic":
                regions, maps = _panoptic(files[main], paths[main], label_of, root / str(self.panoptic_images))
            else:
                regions = _instances(files[main], paths[main], label_of)
        references = _references(files["phrases"], paths["phrases"]) if "phrases" in files else {}
        captions, nouns = _captions(files["captions"], paths["captions"]) if "captions" in files else ({}, {})

        def record(picture: Json) -> Record:
            key = picture["id"]
            named = maps[key].name if main == "panoptic" and self.image_rename else picture["file_name"]
            name = renamed(named, self.image_rename)
            return Record(
                id=key,
                image=root / self.images / name,
                height=picture.get("height"),
                width=picture.get("width"),
                id_map=maps.get(key),
                regions=None if regions is None else regions.get(key, ()),
                references=references.get(key, ()),
                captions=captions.get(key, ()),
                nouns=nouns.get(key, ()),
                label_map=root / self.labels / renamed(name, self.label_rename) if main == "panoptic" and self.labels else None,
            )

        try:
            images = _images(files[main])
            return vocabulary, [record(picture) for picture in images if main != "panoptic" or picture["id"] in maps]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{paths[main]}: each entry of 'images' needs an id and a file_name (missing: {error})") from None


def outline_mask(outline: Any, height: int, width: int, where: str) -> np.ndarray:
    """(H, W) bool mask of COCO polygons (their union) or an RLE, compressed or not; raises ValueError naming `where`."""
    try:
        if isinstance(outline, Mapping):
            counts = outline["counts"]
            code = rle.frPyObjects(outline, *outline["size"]) if isinstance(counts, list) else dict(outline)
            if tuple(code["size"]) != (height, width):
                raise ValueError(f"its size {tuple(code['size'])} is not the picture's {(height, width)}")
            return _decode(code)
        polygons = [points for points in outline if len(points) >= 6]
        if not polygons:
            return np.zeros((height, width), dtype=bool)
        return _decode(rle.merge(rle.frPyObjects(polygons, height, width)))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{where}: its segmentation is neither a list of polygons nor an RLE ({error})") from None


def _decode(code: Any) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools has not caught up with NumPy 2
        return np.asarray(rle.decode(code).astype(bool))


def _read(path: Path) -> Json:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise ValueError(f"{path}: expected a COCO JSON, an object with a list 'annotations'")
    return content


def _images(file: Json) -> list[Json]:
    """The `images` list; some panoptic files carry file names of the PNGs only."""
    if "images" in file:
        return list(file["images"])
    return [{"id": a["image_id"], "file_name": Path(a["file_name"]).stem + ".jpg"} for a in file["annotations"]]


def _classes(spec: CocoSpec, file: Json, path: Path) -> tuple[Vocabulary, Mapping[int, int]]:
    if not spec.vocabulary:
        return _categories(file, path)
    classes = vocabularies.load(spec.vocabulary).vocabulary
    return classes, numbers(spec, len(classes))


def _categories(file: Json, path: Path) -> tuple[Vocabulary, dict[int, int]]:
    try:
        rows = sorted(file["categories"], key=lambda row: row["id"])
        names, things = tuple(row["name"] for row in rows), tuple(bool(row.get("isthing", 1)) for row in rows)
        return Vocabulary(names, things), {row["id"]: label for label, row in enumerate(rows)}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected 'categories' with an id and a name each (missing: {error})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _label(label_of: Mapping[int, int], category: int, path: Path, image: Any) -> int:
    if category not in label_of:
        raise ValueError(f"{path}: picture {image} has category {category}, which is none of the set's classes")
    return label_of[category]


def _panoptic(
    file: Json, path: Path, label_of: Mapping[int, int], folder: Path
) -> tuple[dict[Any, tuple[Region, ...]], dict[Any, Path]]:
    regions, maps = {}, {}
    for annotation in _complete(file["annotations"], ("image_id", "file_name", "segments_info"), path):
        image = annotation["image_id"]
        maps[image] = folder / annotation["file_name"]
        regions[image] = tuple(
            Region(_label(label_of, info["category_id"], path, image), id=info["id"], crowd=bool(info.get("iscrowd", 0)))
            for info in _complete(annotation["segments_info"], ("id", "category_id"), path)
        )
    return regions, maps


def _instances(file: Json, path: Path, label_of: Mapping[int, int]) -> dict[Any, tuple[Region, ...]]:
    regions = defaultdict(list)
    for annotation in _complete(file["annotations"], ("image_id", "category_id", "segmentation"), path):
        label = _label(label_of, annotation["category_id"], path, annotation["image_id"])
        crowd = bool(annotation.get("iscrowd", 0))
        regions[annotation["image_id"]].append(Region(label, crowd=crowd, outline=annotation["segmentation"]))
    return {image: tuple(found) for image, found in regions.items()}


def _references(file: Json, path: Path) -> dict[Any, tuple[Reference, ...]]:
    """Sentences stand in the annotation itself (merged form), or in `refs` that point at it; one entry an object."""
    said: dict[Any, list[Json]] = defaultdict(list)
    for ref in _complete(file.get("refs", []), ("ann_id", "sentences"), path):
        said[ref["ann_id"]] += ref["sentences"]
    references = defaultdict(list)
    for annotation in _complete(file["annotations"], ("id", "image_id", "segmentation"), path):
        sentences = _complete([*annotation.get("sentences", []), *said[annotation["id"]]], (), path)
        texts = tuple(str(s.get("raw") or s.get("sent", "")).strip().lower() for s in sentences)
        texts = tuple(text for text in texts if text)
        if texts:
            references[annotation["image_id"]].append(Reference(annotation["segmentation"], texts, annotation["id"]))
    return {image: tuple(found) for image, found in references.items()}


def _captions(file: Json, path: Path) -> tuple[dict[Any, tuple[str, ...]], dict[Any, tuple[tuple[str, ...], ...]]]:
    """Captions by picture, and their nouns where all annotations state them."""
    captions, nouns = defaultdict(list), defaultdict(list)
    stated = bool(file["annotations"])
    for annotation in _complete(file["annotations"], ("image_id", "caption"), path):
        captions[annotation["image_id"]].append(annotation["caption"].strip())
        nouns[annotation["image_id"]].append(tuple(annotation.get("nouns", ())))
        stated &= "nouns" in annotation
    by_image = {image: tuple(texts) for image, texts in captions.items()}
    return by_image, {image: tuple(words) for image, words in nouns.items()} if stated else {}


def _complete(rows: Iterable[Json], keys: tuple[str, ...], path: Path) -> Iterable[Json]:
    """The rows, each checked to be an object that has the keys."""
    for row in rows:
        absent = [key for key in keys if key not in row] if isinstance(row, dict) else list(keys)
        if absent or not isinstance(row, dict):
            raise ValueError(f"{path}: an annotation lacks {absent[0]!r}" if absent else f"{path}: {row!r} is not an object")
        yield row
