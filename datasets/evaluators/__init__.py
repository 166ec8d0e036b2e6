"""Scores, each computed as the field's official tool does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets.evaluators.attributes import AttributeEvaluator
from datasets.evaluators.captioning import CaptionEvaluator
from datasets.evaluators.cityscapes import CityscapesInstanceEvaluator, InstanceIouEvaluator
from datasets.evaluators.classification import ClassificationEvaluator
from datasets.evaluators.evaluator import Evaluator
from datasets.evaluators.instance import InstanceEvaluator
from datasets.evaluators.interactive import InteractiveEvaluator
from datasets.evaluators.panoptic import PanopticEvaluator
from datasets.evaluators.referring import ReferringEvaluator
from datasets.evaluators.retrieval import RetrievalEvaluator
from datasets.evaluators.semantic import SemanticEvaluator
from datasets.evaluators.vqa import VqaEvaluator
from datasets.readers.classes import VocabularyKeys, numbers
from datasets.readers.coco import CocoSpec
from datasets.shapes import COLOURS, SHAPES
from datasets.spec import DatasetSpec, EvaluatorName
from datasets.tasks import TaskName, serves
from xdecoder.types import Vocabulary

__all__ = [
    "AttributeEvaluator",
    "CaptionEvaluator",
    "CityscapesInstanceEvaluator",
    "ClassificationEvaluator",
    "Evaluator",
    "InstanceEvaluator",
    "InstanceIouEvaluator",
    "InteractiveEvaluator",
    "PanopticEvaluator",
    "ReferringEvaluator",
    "RetrievalEvaluator",
    "SemanticEvaluator",
    "VqaEvaluator",
    "evaluators_for",
]

TASKS: dict[TaskName, tuple[EvaluatorName, ...]] = {
    "segmentation": ("panoptic", "cityscapes_instance", "instance", "semantic", "iiou"),
    "referring": ("referring",),
    "captioning": ("captioning", "attributes"),
    "retrieval": ("retrieval",),
    "classification": ("classification",),
    "vqa": ("vqa",),
    "interactive": ("interactive",),
}
GENERATED_POOL = 100  # captions of generated scenes repeat themselves; among too many pictures no caption means only one


def evaluators_for(
    task: TaskName, spec: DatasetSpec, root: str | Path, vocabulary: Vocabulary | None
) -> list[Evaluator[Any, Any]]:
    """What measures `task` on a data set; empty where nothing applies.

    Args:
        task: segmentation, referring, captioning, retrieval, classification, vqa or interactive.
        root: data root, from which the paths in `spec` are counted.
        vocabulary: the classes that the samples' labels index; needed for segmentation and classification.
    """
    if task not in TASKS:
        raise ValueError(f"no task is called {task!r}; expected one of {', '.join(TASKS)}")
    applies = [name for name in TASKS[task] if name in spec.evaluators and serves(spec, task)]
    if task in ("segmentation", "classification"):
        return [_of_classes(name, spec, Path(root), vocabulary) for name in applies]
    return [_of_language(name, spec, Path(root)) for name in applies]


def _of_classes(name: str, spec: DatasetSpec, root: Path, vocabulary: Vocabulary | None) -> Evaluator[Any, Any]:
    if vocabulary is None:
        raise ValueError(f"data set {spec.name!r}: {name} scores cannot be had without class names")
    match name:
        case "panoptic":
            return PanopticEvaluator(vocabulary)
        case "instance":
            known = numbers(spec, len(vocabulary)) if isinstance(spec, VocabularyKeys) and spec.vocabulary else None
            official = spec.instances if isinstance(spec, CocoSpec) else None
            prefix = "COCO_" if "cityscapes_instance" in spec.evaluators else ""
            return InstanceEvaluator(vocabulary, root / official if official else None, known, prefix)
        case "cityscapes_instance":
            if not isinstance(spec, CocoSpec) or spec.instances is None:
                raise ValueError(f"data set {spec.name!r}: evaluator 'cityscapes_instance' needs the key instances")
            return CityscapesInstanceEvaluator(vocabulary, root / spec.instances, numbers(spec, len(vocabulary)))
        case "iiou":
            return InstanceIouEvaluator(vocabulary)
        case "classification":
            return ClassificationEvaluator(vocabulary)
    return SemanticEvaluator(vocabulary, spec.measured_with.fold)


def _of_language(name: str, spec: DatasetSpec, root: Path) -> Evaluator[Any, Any]:
    scenes = spec.scenes if isinstance(spec, CocoSpec) else None
    match name:
        case "referring":
            return ReferringEvaluator()
        case "captioning":
            return CaptionEvaluator(java=scenes is None)  # of generated captions synonyms say nothing
        case "retrieval":
            return RetrievalEvaluator(GENERATED_POOL if scenes else None)
        case "vqa":
            return VqaEvaluator()
        case "interactive":
            return InteractiveEvaluator()
    if scenes is None:
        raise ValueError(f"data set {spec.name!r}: evaluator 'attributes' needs the key scenes")
    return AttributeEvaluator(root / scenes, COLOURS, SHAPES)
