"""Predictions in the formats that official servers take, and their way back into results, so that scores need no network.

A set's folder holds, as far as they apply,

- `panoptic.json` and `panoptic/*.png`: COCO panoptic results (id = R + 256 G + 65536 B);
- `instances.json`: COCO instance results; for the sets of SegInW `<set>.json` beside the folder, as its server wants them;
- `semantic/*.png`: a label image a picture, with the numbers that the set's own label images have;
- `referring.json`: the mask of each phrase as COCO run lengths;
- `captions.json`: COCO caption results; `answers.json`: VQA results (EvalAI); `classes.json`: the likeliest classes;
- `retrieval.safetensors`: the vectors of each picture and of its captions.
"""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from datasets.evaluators.instance import encode
from datasets.outlines import outline_mask
from datasets.predictions import Row, read_rows
from datasets.readers.classes import numbers
from datasets.readers.coco import CocoSpec
from datasets.readers.coco_file import category_ids
from datasets.spec import DatasetSpec
from xdecoder.files import atomic, regular, shown, write_json
from xdecoder.images import decode
from xdecoder.tasks import descriptor_of
from xdecoder.types import (
    AnswerResult,
    Batch,
    CaptionResult,
    ClassificationResult,
    InstanceResult,
    InteractiveResult,
    PanopticResult,
    PanopticSegment,
    ReferringResult,
    RetrievalResult,
    Sample,
    SegmentationResult,
    Vocabulary,
)

PANOPTIC, INSTANCES = "panoptic.json", "instances.json"

Rows = dict[str, list[Row]]  # the lines that one picture adds to each of the files


class Submission:
    """Writes what a network says of one set: pictures at once, lists when it is finished.

    Args:
        folder: of the set.
        spec: says what applies.
        root: the data root, where the numbers of the classes are found.
        vocabulary: what labels index; None where the set has no classes.
    """

    def __init__(self, folder: Path, spec: DatasetSpec, root: Path, vocabulary: Vocabulary | None) -> None:
        self.folder, self.spec = folder, spec
        self._number_of = {} if vocabulary is None else class_numbers(spec, root, vocabulary)
        self._records: dict[int | str, Rows] = {}

    def update(self, task: str, result: Any, sample: Sample) -> None:
        """Take in one result; id maps and label images are written here."""
        rows = self._records.setdefault(sample.id, {})
        if isinstance(result, SegmentationResult):
            rows |= self._segmentation(result, sample)
        else:
            name = _file_of(task)
            rows[name] = _ROWS[type(result)](result, sample)

    def state(self) -> dict[int | str, Rows]:
        """What has been taken in, as plain values."""
        return dict(self._records)

    def merge(self, states: Iterable[Mapping[int | str, Rows]]) -> None:
        """Take in what other processes' `state()` gave."""
        for state in states:
            self._records.update(state)

    def write(self) -> None:
        """Write the lists, in the order of the picture ids."""
        lists: dict[str, list[Row]] = defaultdict(list)
        for _, rows in sorted(self._records.items(), key=lambda item: (isinstance(item[0], str), item[0])):
            for kind, lines in rows.items():
                lists[kind] += lines
        for kind, lines in lists.items():
            path = list_file(self.folder, kind)
            if path.suffix == ".safetensors":
                _write_vectors(path, lines)
            else:
                write_json(path, {"annotations": lines} if kind == PANOPTIC else lines)

    def _segmentation(self, result: SegmentationResult, sample: Sample) -> Rows:
        rows: Rows = {}
        if "panoptic" in self.spec.evaluators and result.panoptic is not None:
            ids = result.panoptic.ids.cpu().numpy().astype(np.int64)
            colours = np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], axis=-1).astype(np.uint8)
            name = image_name(sample.id)
            _write_image_file(self.folder / "panoptic" / name, Image.fromarray(colours))
            segments = [
                {"id": s.id, "category_id": self._number_of[s.label], "isthing": int(s.is_thing), "score": s.score}
                for s in result.panoptic.segments
            ]
            rows[PANOPTIC] = [{"image_id": sample.id, "file_name": name, "segments_info": segments}]
        if "instance" in self.spec.evaluators and result.instances is not None:
            found = result.instances
            rows[INSTANCES] = [
                {"image_id": sample.id, "category_id": self._number_of[label], "segmentation": code, "score": score}
                for code, label, score in zip(_codes(found.masks), found.labels.tolist(), found.scores.tolist(), strict=True)
            ]
        if "semantic" in self.spec.evaluators and result.semantic is not None:
            values = np.array([self._number_of.get(label, 0) for label in range(max(self._number_of, default=0) + 1)])
            image = values[result.semantic.cpu().numpy()].astype(np.uint8 if values.max() < 256 else np.uint16)
            _write_image_file(self.folder / "semantic" / image_name(sample.id), Image.fromarray(image))
        return rows


class SavedAnswers:
    """Reads a submission back; called with the tasks and a batch, it answers as the network did.

    Args:
        known: ids of all the set's pictures, so that predictions of others are refused; None = not known beforehand.
        questions: those of all its questions.

    Raises:
        ValueError: for a file that is missing or wrong, or lacks a picture.
    """

    def __init__(
        self,
        folder: Path,
        spec: DatasetSpec,
        root: Path,
        vocabulary: Vocabulary | None,
        known: Collection[int | str] | None = None,
        questions: Collection[int | str] | None = None,
    ) -> None:
        self.folder, self.spec, self._known, self._questions = folder, spec, known, questions
        names = {} if vocabulary is None else class_numbers(spec, root, vocabulary)
        self._label_of = {number: label for label, number in names.items()}
        self._lists: dict[str, Mapping[int | str, list[Row]]] = {}
        self._vectors: dict[str, Tensor] | None = None

    def __call__(self, tasks: Iterable[str], batch: Batch) -> dict[str, list[Any]]:
        return {task: [self._result(task, sample) for sample in batch.samples] for task in tasks}

    def _result(self, task: str, sample: Sample) -> Any:
        kind = descriptor_of(task).result
        if kind is SegmentationResult:
            return self._segmentation(sample)
        return _READ[kind](self, _file_of(task), sample)

    def _segmentation(self, sample: Sample) -> SegmentationResult:
        wanted = self.spec.evaluators
        return SegmentationResult(
            semantic=self._semantic(sample) if "semantic" in wanted else None,
            instances=self._instances(sample) if "instance" in wanted else None,
            panoptic=self._panoptic(sample) if "panoptic" in wanted else None,
        )

    def _semantic(self, sample: Sample) -> Tensor:
        path = self.folder / "semantic" / image_name(sample.id)
        values = np.array(decode(path, "prediction"))
        if values.shape != tuple(sample.output_size):
            raise ValueError(f"{path}: has shape {values.shape}; expected one number a pixel, {tuple(sample.output_size)}")
        strange = sorted(set(np.unique(values).tolist()) - set(self._label_of))
        if strange:
            raise ValueError(f"{path}: holds value {strange[0]}, which is the number of no class")
        label_of = np.zeros(max(self._label_of) + 1, dtype=np.int64)
        label_of[list(self._label_of)] = list(self._label_of.values())
        return torch.from_numpy(label_of[values])

    def _panoptic(self, sample: Sample) -> PanopticResult:
        row, path = self._only(PANOPTIC, sample), list_file(self.folder, PANOPTIC)
        name = row["file_name"]
        image = decode(self.folder / "panoptic" / name, "prediction")
        if image.mode not in ("RGB", "RGBA"):
            raise ValueError(f"{path}: {shown(name)} is a {image.mode} image; a panoptic PNG is RGB (id = R + 256 G + 65536 B)")
        colours = np.array(image).astype(np.int32)
        ids = colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]
        segments = tuple(
            PanopticSegment(s["id"], self._label(s["category_id"], path), bool(s.get("isthing", 0)), float(s.get("score", 1.0)))
            for s in row["segments_info"]
        )
        return PanopticResult(torch.from_numpy(ids), segments)

    def _instances(self, sample: Sample) -> InstanceResult:
        rows, path = self._rows(INSTANCES, sample), list_file(self.folder, INSTANCES)
        masks = [outline_mask(row["segmentation"], *sample.output_size, where=f"{path}: picture {sample.id}") for row in rows]
        labels = [self._label(row["category_id"], path) for row in rows]
        return InstanceResult(
            _stack(masks, sample),
            torch.tensor(labels, dtype=torch.int64),
            torch.tensor([row["score"] for row in rows], dtype=torch.float64),
        )

    def _masks(self, kind: str, sample: Sample) -> ReferringResult:
        rows = sorted(self._rows(kind, sample), key=lambda row: row["index"])
        where = f"{list_file(self.folder, kind)}: picture {sample.id}"
        phrases = len(sample.phrases.texts) if sample.phrases else 0
        if [row["index"] for row in rows] != list(range(phrases)):
            listed = ", ".join(str(row["index"]) for row in rows[:20]) or "none"
            raise ValueError(f"{where} has masks with the indices {listed}; expected one for each of {phrases} phrases")
        masks = [outline_mask(row["segmentation"], *sample.output_size, where=where) for row in rows]
        found = [bool(row.get("found", mask.any())) for row, mask in zip(rows, masks, strict=True)]
        scores = torch.tensor([row["score"] for row in rows], dtype=torch.float64)
        return ReferringResult(_stack(masks, sample), scores, torch.tensor(found, dtype=torch.bool))

    def _caption(self, kind: str, sample: Sample) -> CaptionResult:
        return CaptionResult(self._only(kind, sample)["caption"])

    def _classes(self, kind: str, sample: Sample) -> ClassificationResult:
        row, path = self._only(kind, sample), list_file(self.folder, kind)
        if len(row["labels"]) != len(row["scores"]):
            raise ValueError(f"{path}: picture {sample.id} has {len(row['labels'])} labels and {len(row['scores'])} scores")
        if len(set(row["labels"])) < len(row["labels"]):
            raise ValueError(f"{path}: picture {sample.id} has a label more than once")
        scores, order = torch.tensor(row["scores"], dtype=torch.float64).sort(descending=True, stable=True)
        return ClassificationResult(torch.tensor(row["labels"], dtype=torch.int64)[order], scores)

    def _rounds(self, kind: str, sample: Sample) -> InteractiveResult:
        row = self._only(kind, sample)
        return InteractiveResult(torch.tensor(row["ious"], dtype=torch.float64), row["seconds"], row["passes"])

    def _answers(self, kind: str, sample: Sample) -> AnswerResult:
        if kind not in self._lists:
            self._lists[kind] = read_rows(list_file(self.folder, kind), kind, self._questions)
        missing = [question.id for question in sample.questions if question.id not in self._lists[kind]]
        if missing:
            raise ValueError(f"{list_file(self.folder, kind)}: has no answer to question {missing[0]}")
        return AnswerResult(tuple(self._lists[kind][question.id][0]["answer"] for question in sample.questions))

    def _pair(self, kind: str, sample: Sample) -> RetrievalResult:
        path = list_file(self.folder, kind)
        if self._vectors is None:
            self._vectors = _read_vectors(path, self._known)
        try:
            return RetrievalResult(self._vectors[f"{sample.id}/image"], self._vectors[f"{sample.id}/texts"])
        except KeyError:
            raise ValueError(f"{path}: has no vectors of picture {sample.id}") from None

    def _rows(self, kind: str, sample: Sample) -> list[Row]:
        """What a list says of one picture; instances of a picture may be none."""
        if kind not in self._lists:
            self._lists[kind] = read_rows(list_file(self.folder, kind), kind, self._known)
        return self._lists[kind].get(sample.id, [])

    def _only(self, kind: str, sample: Sample) -> Row:
        rows = self._rows(kind, sample)
        if not rows:
            raise ValueError(f"{list_file(self.folder, kind)}: says nothing of picture {sample.id}")
        return rows[0]

    def _label(self, number: int, path: Path) -> int:
        if number not in self._label_of:
            raise ValueError(f"{path}: category {number} is none of the data set {self.spec.name!r}")
        return self._label_of[number]


def class_numbers(spec: DatasetSpec, root: Path, vocabulary: Vocabulary) -> dict[int, int]:
    """Label -> the number that stands for the class in the set's own files."""
    json = (spec.panoptic or spec.instances) if isinstance(spec, CocoSpec) and not spec.vocabulary else None
    if json and (root / json).is_file():
        return dict(enumerate(category_ids(root / json)))
    return {label: number for number, label in numbers(spec, len(vocabulary)).items()}


def image_name(image: int | str) -> str:
    """The file name of a picture's PNG: COCO's twelve digits, or the id without folders and what no file is called."""
    if isinstance(image, int):
        return f"{image:012d}.png"
    name = image.replace("/", "_")
    clean = re.sub(r"[^\w .,()+=@#%&~{}\[\]-]", "_", name)[:150]
    return f"{name}.png" if clean == name else f"{clean}-{zlib.crc32(image.encode(errors='replace')):08x}.png"


def list_file(folder: Path, kind: str) -> Path:
    """Where a list lies; SegInW wants its files of instances beside each other."""
    if kind == INSTANCES and folder.name.startswith("seginw_"):
        return folder.with_name(f"{folder.name}.json")
    return folder / kind


def _file_of(task: str) -> str:
    name = descriptor_of(task).submission
    if not name:
        raise ValueError(f"results of task {task!r} cannot be saved: there is no format for them")
    return name


def _mask_rows(result: ReferringResult, sample: Sample) -> list[Row]:
    texts = sample.phrases.texts if sample.phrases else ()
    rows = zip(texts, _codes(result.masks), result.scores.tolist(), result.there.tolist(), strict=True)
    return [
        {"image_id": sample.id, "index": i, "phrase": text, "segmentation": code, "score": score, "found": found}
        for i, (text, code, score, found) in enumerate(rows)
    ]


def _class_rows(result: ClassificationResult, sample: Sample) -> list[Row]:
    return [{"image_id": sample.id, "labels": result.labels.tolist(), "scores": result.scores.tolist()}]


def _answer_rows(result: AnswerResult, sample: Sample) -> list[Row]:
    return [{"question_id": q.id, "answer": text} for q, text in zip(sample.questions, result.texts, strict=True)]


def _round_rows(result: InteractiveResult, sample: Sample) -> list[Row]:
    return [{"image_id": sample.id, "ious": result.ious.tolist(), "seconds": result.seconds, "passes": result.passes}]


def _vector_rows(result: RetrievalResult, sample: Sample) -> list[Row]:
    return [{"id": sample.id, "image": result.image.float().cpu().numpy(), "texts": result.texts.float().cpu().numpy()}]


_ROWS: dict[type, Callable[[Any, Sample], list[Row]]] = {
    ReferringResult: _mask_rows,
    CaptionResult: lambda result, sample: [{"image_id": sample.id, "caption": result.text}],
    ClassificationResult: _class_rows,
    AnswerResult: _answer_rows,
    InteractiveResult: _round_rows,
    RetrievalResult: _vector_rows,
}
_READ: dict[type, Callable[[SavedAnswers, str, Sample], Any]] = {
    ReferringResult: SavedAnswers._masks,
    CaptionResult: SavedAnswers._caption,
    ClassificationResult: SavedAnswers._classes,
    AnswerResult: SavedAnswers._answers,
    InteractiveResult: SavedAnswers._rounds,
    RetrievalResult: SavedAnswers._pair,
}


def _codes(masks: Tensor) -> list[Row]:
    return [{"size": list(code["size"]), "counts": code["counts"].decode("ascii")} for code, _ in encode(masks)]


def _stack(masks: list[np.ndarray], sample: Sample) -> Tensor:
    return torch.from_numpy(np.stack(masks) if masks else np.zeros((0, *sample.output_size), dtype=bool))


def _write_image_file(path: Path, image: Image.Image) -> None:
    with atomic(path) as file:
        image.save(file, "PNG")


def _write_vectors(path: Path, rows: list[Row]) -> None:
    vectors = {f"{row['id']}/{part}": torch.from_numpy(row[part]) for row in rows for part in ("image", "texts")}
    with atomic(path) as file:
        file.write(to_safetensors(vectors))


def _read_vectors(path: Path, known: Collection[int | str] | None) -> dict[str, Tensor]:
    """Vectors of images (1 or 2, D) and of their captions (n, D), by the id of the image and which of the two."""
    try:
        vectors = from_safetensors(regular(path).read_bytes())
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from None
    names = None if known is None else set(map(str, known))
    for name, vector in vectors.items():
        image, _, part = name.rpartition("/")
        if names is not None and image not in names:
            raise ValueError(f"{path}: vector {shown(name)} is of no picture that the data set has")
        if part not in ("image", "texts") or vector.dim() != 2 or not vector.is_floating_point():
            what = f"{path}: vector {shown(name)} is {tuple(vector.shape)} {vector.dtype}".replace("torch.", "")
            raise ValueError(f"{what}; expected ID/image and ID/texts, each rows of floating-point numbers")
    return vectors
