"""What each task needs of a set and of a picture."""

from __future__ import annotations

from typing import Literal, get_args

from datasets.records import Record
from datasets.spec import DatasetSpec, Part

TaskName = Literal["segmentation", "referring", "captioning", "retrieval", "classification", "vqa", "interactive"]

_NEEDS: dict[TaskName, Part] = {
    "segmentation": "regions",
    "referring": "references",
    "captioning": "captions",
    "retrieval": "texts",
    "classification": "label",
    "vqa": "questions",
    "interactive": "objects",
}
_INSTEAD: dict[TaskName, Part] = {"interactive": "regions"}
"""What serves a task as well as what it needs."""


def serves(spec: DatasetSpec, task: TaskName, training: bool = False) -> bool:
    """Whether a set has what a task is measured against, or learnt from: names of classes can stand in for phrases."""
    parts = spec.provides()
    enough = _NEEDS[task] in parts or _INSTEAD.get(task) in parts
    return enough or (training and task == "referring" and "regions" in parts)


def check_serves(spec: DatasetSpec, tasks: tuple[TaskName, ...], training: bool) -> None:
    """Raises ValueError for the first task that the set has nothing for."""
    for task in tasks:
        if not serves(spec, task, training):
            served = ", ".join(name for name in get_args(TaskName) if serves(spec, name))
            raise ValueError(f"data set {spec.name!r} has nothing for task {task!r}; it serves {served}")


def useful(record: Record, tasks: tuple[TaskName, ...], training: bool, classes: bool) -> bool:
    """Whether a picture serves, in training, every task, or in evaluation any; `classes`: whether the set has some."""
    regions = record.regions is not None or record.id_map is not None
    has: dict[Part, bool] = {
        "regions": regions,
        "objects": regions or bool(record.objects),
        "references": bool(record.references) or (training and classes),
        "captions": bool(record.captions),
        "texts": bool(record.captions),
        "label": record.label is not None,
        "questions": bool(record.questions),
    }
    found = [has[_NEEDS[task]] for task in tasks]
    return all(found) if training else any(found)
