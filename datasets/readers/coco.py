"""COCO's JSONs: panoptic, instances, captions, and referring expressions in RefCOCO's merged form.

Formats: https://cocodataset.org/#format-data and https://github.com/lichengunc/refer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NotRequired

from pydantic import Field, TypeAdapter, model_validator
from typing_extensions import TypedDict

from datasets import outlines
from datasets.findings import Findings, fatal, refuse
from datasets.readers.classes import LabelImageKeys, VocabularyKeys, numbers, renamed
from datasets.readers.coco_file import MEND_IDS, PANOPTICS, Categories, File, Panoptic, Picture
from datasets.readers.names import Names
from datasets.readers.schema import MEND, Id, Sentence, texts_of
from datasets.readers.vqa import read_questions
from datasets.records import Contents, Record, Reference, Region, Turn
from datasets.shapes import pair_named
from datasets.spec import DatasetSpec, Part, Rename, needs
from xdecoder.files import read_json, shown
from xdecoder.language import vocabularies
from xdecoder.types import Vocabulary

KINDS = ("panoptic", "instances", "phrases", "captions")

_MEND_OUTLINES = "mend these annotations, or leave them out of the JSON"


class Object(TypedDict):
    """One annotation of an instances JSON."""

    id: NotRequired[Id | None]
    image_id: Id
    category_id: Id
    segmentation: Any
    iscrowd: NotRequired[bool | None]
    area: NotRequired[Annotated[float, Field(allow_inf_nan=False)] | None]


class _Caption(TypedDict):
    id: NotRequired[Id | None]
    image_id: Id
    caption: str
    nouns: NotRequired[list[str]]


class _Phrase(TypedDict):
    id: Id
    image_id: Id
    category_id: NotRequired[Id | None]
    segmentation: Any
    sentences: NotRequired[list[Sentence]]


class _Ref(TypedDict):
    ann_id: Id
    sentences: list[Sentence]


OBJECTS = TypeAdapter(list[Object])
_CAPTIONS, _PHRASES, _REFS = TypeAdapter(list[_Caption]), TypeAdapter(list[_Phrase]), TypeAdapter(list[_Ref])


class CocoSpec(LabelImageKeys, VocabularyKeys, DatasetSpec):
    """COCO-style JSONs: at least one of panoptic, instances, phrases and captions."""

    file_keys: ClassVar[tuple[str, ...]] = (*KINDS, "scenes", "questions", "answers")
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

    questions: str | None = None
    """JSON of questions in VQA's form."""

    answers: str | None = None
    """JSON of what people answered, in VQA's form."""

    scenes: str | None = None
    """JSON of the attributes of each object (generated sets only), for the attribute evaluator."""

    image_rename: Rename = ()
    """How a picture's path in `images` follows from what the JSON calls it (panoptic sets: its PNG)."""

    loose_names: bool = False
    """Whether pictures that are not there by the JSON's names are looked for under others that mean the same: with slashes for
    backslashes, other cases, %20 or another Unicode form, or below another folder."""

    turn: Turn = "stored"
    """Which way up annotations are drawn on photographs that are stored turned: as `stored`, as `displayed`, or as `told` by
    sizes and outlines; those that do not tell are then refused, one by one."""

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
            "questions": self.questions,
        }
        return frozenset(part for part, there in parts.items() if there)

    def read(self, root: Path) -> Contents:
        """Records of all pictures that the JSONs list, in the order of the first of panoptic, instances, phrases, captions.

        Labels are the positions of the category ids in ascending order, from the JSON itself, unless a vocabulary is named.
        """
        paths = {kind: root / name for kind in KINDS if (name := getattr(self, kind))}
        if "panoptic" in paths:
            paths.pop("instances", None)  # these serve the evaluator, which reads them itself
        found = Findings()
        files = {kind: File.read(path) for kind, path in paths.items()}
        main = next(iter(files))
        for kind, file in files.items():
            file.check_pictures(found, strict=kind in ("panoptic", "instances"))
            if file.listed and not set(file.pictures) & set(files[main].pictures):
                what = f"{file.path}: has no picture in common with {files[main].path}"
                found.add(f"{kind} alone", what, "name the files of one split")
        vocabulary: Vocabulary | None = None
        regions: dict[Id, list[Region]] | None = None
        maps: dict[Id, Path] = {}
        if main == "panoptic":
            vocabulary, regions, maps = _panoptic(files[main], self, root / str(self.panoptic_images), found)
        elif main == "instances":
            vocabulary, regions = _instances(files[main], self, found)
        references = _references(files["phrases"], found, bool(self.scenes)) if "phrases" in files else {}
        shows = _pairs_of(root / self.scenes) if self.scenes else _kinds_of(files[main]) if regions is not None else {}
        captions, nouns = _captions(files["captions"], found) if "captions" in files else ({}, {})
        answers = root / self.answers if self.answers else None
        asked = read_questions(root / self.questions, answers)[1] if self.questions else {}
        home = root / self.images
        names = Names(home) if self.loose_names else None

        def record(picture: Picture) -> Record:
            key = picture["id"]
            if "file_name" not in picture:
                raise refuse(f"{files[main].path}: picture {shown(key)} lacks 'file_name'", MEND)
            named = maps[key].name if main == "panoptic" and self.image_rename else picture["file_name"]
            name = renamed(named, self.image_rename)
            return Record(
                id=key,
                image=home / name if names is None else names.path(name),
                height=picture.get("height"),
                width=picture.get("width"),
                id_map=maps.get(key),
                regions=None if regions is None else tuple(regions.get(key, ())),
                references=references.get(key, ()),
                captions=captions.get(key, ()),
                nouns=nouns.get(key, ()),
                questions=asked.get(key, ()),
                label_map=root / self.labels / renamed(name, self.label_rename) if main == "panoptic" and self.labels else None,
                turn=self.turn,
                shows=shows.get(str(key), frozenset()) if shows else None,
            )

        pictures = files[main].pictures
        records = [record(pictures[key]) for key in pictures if main != "panoptic" or key in maps]
        return Contents(vocabulary, records, found.told())


def _label_of(file: File, spec: CocoSpec, used: Collection[Any]) -> tuple[Vocabulary, dict[Id, int], frozenset[Id]]:
    """The classes, their labels by category id, and the ids that stand for none."""
    if spec.vocabulary:
        classes = vocabularies.load(spec.vocabulary).vocabulary
        return classes, dict(numbers(spec, len(classes)).items()), frozenset()
    categories = Categories.read(file, used)
    return categories.vocabulary, {key: label for label, key in enumerate(categories.names)}, categories.background


def _by_text(labels: Mapping[Id, int]) -> Callable[[Id], int | None]:
    """Labels by category id, whether it is written as a number or as a text."""
    texts = {str(key): label for key, label in labels.items()}
    return lambda key: labels[key] if key in labels else texts.get(str(key))


def _panoptic(
    file: File, spec: CocoSpec, folder: Path, found: Findings
) -> tuple[Vocabulary, dict[Id, list[Region]], dict[Id, Path]]:
    rows: list[Panoptic] = file.rows(PANOPTICS)
    file.check_joins(rows, found, strict=True)
    used = {info["category_id"] for row in rows for info in row["segments_info"]}
    vocabulary, labels, background = _label_of(file, spec, used)
    label_of, left_out = _by_text(labels), set(map(str, background))
    regions: dict[Id, list[Region]] = {}
    maps: dict[Id, Path] = {}
    for row in rows:
        key = row["image_id"]
        maps[key] = folder / row["file_name"].replace("\\", "/")
        regions[key] = []
        if len({info["id"] for info in row["segments_info"]}) < len(row["segments_info"]):
            what = f"{file.path}: picture {shown(key)} has two segments of one id"
            found.add("segments", what, MEND_IDS)
        for info in row["segments_info"]:
            label = label_of(info["category_id"])
            if label is None and str(info["category_id"]) not in left_out:
                _strange_category(found, file.path, key, info["category_id"])
            else:
                crowd = bool(info.get("iscrowd"))
                regions[key].append(Region(-1 if label is None else label, id=info["id"], crowd=crowd))
    _check_learnable(regions, file.path, found)
    return vocabulary, regions, maps


def _instances(file: File, spec: CocoSpec, found: Findings) -> tuple[Vocabulary, dict[Id, list[Region]]]:
    objects: list[Object] = file.rows(OBJECTS)
    file.check_joins(objects, found, strict=True)
    vocabulary, labels, background = _label_of(file, spec, {row["category_id"] for row in objects})
    label_of, left_out = _by_text(labels), set(map(str, background))
    regions: dict[Id, list[Region]] = defaultdict(list)
    for row in objects:
        label = label_of(row["category_id"])
        if label is None:
            if str(row["category_id"]) in left_out:
                what = (
                    f"{file.path}: annotation {shown(row.get('id'))} is of a category called background, which is no class, and"
                )
                found.add("background", f"{what} is left out", "leave background out of the JSON", fatal=False)
            else:
                _strange_category(found, file.path, row["image_id"], row["category_id"])
            continue
        outline = checked_outline(row, file, found, vocabulary.names[label])
        if outline:
            regions[row["image_id"]].append(Region(label, crowd=bool(row.get("iscrowd")), outline=outline))
    _check_learnable(regions, file.path, found)
    return vocabulary, regions


def checked_outline(row: Mapping[str, Any], file: File, found: Findings, label: str | None = None) -> outlines.Outline:
    """An annotation's outline as it is understood everywhere, empty where it has none; what is wrong goes to `found`."""
    picture = file.pictures.get(row["image_id"])
    side = max(picture.get("height") or 0, picture.get("width") or 0) if picture else 0  # which is which EXIF may turn round
    try:
        outline = outlines.parse(row["segmentation"])
        outside = bool(outline and side) and outlines.lies_outside(outline, side, side)
    except ValueError as error:
        what = f"{file.path}: annotation {shown(row.get('id'))} of picture {shown(row['image_id'])}: {error}"
        found.add(f"{file.path}: outline", what, _MEND_OUTLINES, label=label)
        return []
    if outline and not outside:
        return outline
    whose = f"{file.path}: annotation {shown(row.get('id'))} of picture {shown(row['image_id'])}"
    why = "covers no pixel of its picture" if outside else "has no outline (no polygon of three corners or more)"
    found.add(f"{file.path}: {why}", f"{whose} {why} and is left out", _MEND_OUTLINES, fatal=False, label=label)
    return []


def _strange_category(found: Findings, path: Path, image: Id, category: Id) -> None:
    what = f"{path}: picture {shown(image)} has category {shown(category)}, which is none of the set's classes"
    found.add(f"{path}: category", what, MEND_IDS)


def _check_learnable(regions: Mapping[Id, Sequence[Region]], path: Path, found: Findings) -> None:
    """From a set without objects nothing can be learnt, and nothing be measured on it."""
    total = sum(map(len, regions.values()))
    if not total and not fatal(found.told()):
        found.add("nothing", f"{path}: has no object with an outline and a class", _MEND_OUTLINES)
    elif total and total == sum(region.crowd for held in regions.values() for region in held):
        what = f"{path}: all of its {total} objects are crowds (iscrowd 1), which are neither learnt nor measured"
        found.add("crowds", what, "set iscrowd to 0 for single objects; CVAT writes 1 for every mask")


def _pairs_of(scenes: Path) -> dict[str, frozenset[str]]:
    """The colours and shapes of each generated picture's things, such as "red star"."""
    content = read_json(scenes)
    try:
        things = [(str(scene["image_id"]), scene["objects"]) for scene in content["images"]]
        return {key: frozenset(f"{thing['colour']} {thing['shape']}" for thing in objects) for key, objects in things}
    except (KeyError, TypeError):
        raise refuse(f"{scenes}: expected scenes with images, each an image_id and objects with colour and shape") from None


def _kinds_of(file: File) -> dict[str, frozenset[str]]:
    """The categories of each picture's objects, crowds among them."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for row in file.content["annotations"]:
        kinds[str(row["image_id"])] |= {str(info["category_id"]) for info in row.get("segments_info", (row,))}
    return {key: frozenset(held) for key, held in kinds.items()}


def _references(file: File, found: Findings, generated: bool) -> dict[Id, tuple[Reference, ...]]:
    """Sentences stand in the annotation itself (merged form), or in `refs` that point at it; one entry an object.

    What an object is, is its category, or in a generated set its colour and shape, which its phrases name first.
    """
    said: dict[Id, list[Sentence]] = defaultdict(list)
    for ref in file.rows(_REFS, "refs") if "refs" in file.content else ():
        said[ref["ann_id"]] += ref["sentences"]
    rows: list[_Phrase] = file.rows(_PHRASES)
    file.check_joins(rows, found, strict=False)
    references: dict[Id, list[Reference]] = defaultdict(list)
    for row in rows:
        sentences = [*row.get("sentences", ()), *said.get(row["id"], ())]
        texts = texts_of(sentences)
        outline = checked_outline(row, file, found) if texts else []
        if outline:
            kind = row.get("category_id")
            about = pair_named(texts[0]) if generated else "" if kind is None else str(kind)
            references[row["image_id"]].append(Reference(outline, texts, row["id"], about=about))
    return {image: tuple(held) for image, held in references.items()}


def _captions(file: File, found: Findings) -> tuple[dict[Id, tuple[str, ...]], dict[Id, tuple[tuple[str, ...], ...]]]:
    """Captions by picture, and their nouns where all annotations state them."""
    captions, nouns = defaultdict(list), defaultdict(list)
    rows: list[_Caption] = file.rows(_CAPTIONS)
    file.check_joins(rows, found, strict=False)
    stated = bool(rows)
    for row in rows:
        text = row["caption"].strip()
        if not text:
            what = f"{file.path}: a caption of picture {shown(row['image_id'])} is blank and is left out"
            found.add("blank captions", what, fatal=False)
            continue
        captions[row["image_id"]].append(text)
        nouns[row["image_id"]].append(tuple(row.get("nouns", ())))
        stated &= "nouns" in row
    by_image = {image: tuple(texts) for image, texts in captions.items()}
    return by_image, {image: tuple(words) for image, words in nouns.items()} if stated else {}


def scenes_of(spec: DatasetSpec) -> str | None:
    """The JSON of what a generated set's objects are like; None for other sets."""
    return spec.scenes if isinstance(spec, CocoSpec) else None
