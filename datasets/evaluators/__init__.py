"""Scores, each computed as the field's official tool does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets.evaluators.attributes import AttributeEvaluator
from datasets.evaluators.calibration import CalibrationEvaluator
from datasets.evaluators.captioning import CaptionEvaluator
from datasets.evaluators.cityscapes import CityscapesInstanceEvaluator, InstanceIouEvaluator
from datasets.evaluators.classification import ClassificationEvaluator
from datasets.evaluators.evaluator import Evaluator
from datasets.evaluators.grefcoco import GrefcocoEvaluator
from datasets.evaluators.instance import InstanceEvaluator
from datasets.evaluators.interactive import InteractiveEvaluator
from datasets.evaluators.panoptic import PanopticEvaluator
from datasets.evaluators.referring import ReferringEvaluator
from datasets.evaluators.retrieval import RetrievalEvaluator
from datasets.evaluators.saco import SacoEvaluator
from datasets.evaluators.semantic import SemanticEvaluator
from datasets.evaluators.vqa import VqaEvaluator
from datasets.spec import EVALUATORS, DatasetSpec
from datasets.tasks import serves
from xdecoder.plugins import find
from xdecoder.tasks import descriptor_of
from xdecoder.types import Vocabulary

__all__ = [
    "AttributeEvaluator",
    "CalibrationEvaluator",
    "CaptionEvaluator",
    "CityscapesInstanceEvaluator",
    "ClassificationEvaluator",
    "Evaluator",
    "GrefcocoEvaluator",
    "InstanceEvaluator",
    "InstanceIouEvaluator",
    "InteractiveEvaluator",
    "PanopticEvaluator",
    "ReferringEvaluator",
    "RetrievalEvaluator",
    "SacoEvaluator",
    "SemanticEvaluator",
    "VqaEvaluator",
    "evaluators_for",
    "measurers",
]


def measurers(task: str, spec: DatasetSpec) -> list[type[Evaluator[Any, Any]]]:
    """Those of a set's evaluators that measure a task, in the order of the task's descriptor; empty where nothing applies."""
    if not serves(spec, task):
        return []
    own = descriptor_of(task).evaluators
    names = [name for name in own if name in spec.evaluators]
    found = [_evaluator(name) for name in names]
    others = [_evaluator(name) for name in spec.evaluators if name not in EVALUATORS]
    return found + [each for each in others if task in each.measures]


def evaluators_for(task: str, spec: DatasetSpec, root: str | Path, vocabulary: Vocabulary | None) -> list[Evaluator[Any, Any]]:
    """What measures a task on a data set; empty where nothing applies.

    Args:
        root: data root, from which the paths in `spec` are counted.
        vocabulary: the classes that the samples' labels index; None where the set has none.

    Raises:
        ValueError: for an unknown task, or a set that lacks what an evaluator needs.
    """
    return [each.of(spec, Path(root), vocabulary) for each in measurers(task, spec)]


def _evaluator(name: str) -> type[Evaluator[Any, Any]]:
    return find(name, Evaluator, EVALUATORS, "xdecoder.evaluators", "evaluator")  # type: ignore[type-abstract]
