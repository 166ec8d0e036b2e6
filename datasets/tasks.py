"""What tasks need of a set, a picture and a sample, as their descriptors say."""

from __future__ import annotations

from datasets.records import Record
from datasets.spec import DatasetSpec
from xdecoder.tasks import descriptor_of, names
from xdecoder.tasks.descriptor import Part
from xdecoder.types import Sample


def parts(task: str, training: bool = False) -> tuple[Part, ...]:
    """Of these a picture must have one, for the task to be measured on it or learnt from it."""
    descriptor = descriptor_of(task)
    return (descriptor.needs, *descriptor.instead, *(descriptor.learns_from if training else ()))


def serves(spec: DatasetSpec, task: str, training: bool = False) -> bool:
    """Whether a set has what a task is measured against, or learnt from."""
    return bool(spec.provides() & set(parts(task, training)))


def check_serves(spec: DatasetSpec, tasks: tuple[str, ...], training: bool) -> None:
    """Raises ValueError for the first task that the set has nothing for."""
    for task in tasks:
        if not serves(spec, task, training):
            served = ", ".join(name for name in names() if serves(spec, name))
            raise ValueError(f"data set {spec.name!r} has nothing for task {task!r}; it serves {served}")


def known(record: Record) -> set[Part]:
    """What a set says of one picture."""
    has: dict[Part, bool] = {
        "regions": record.regions is not None or record.id_map is not None,
        "objects": bool(record.objects),
        "references": bool(record.references),
        "captions": bool(record.captions),
        "texts": bool(record.captions),
        "label": record.label is not None,
        "questions": bool(record.questions),
    }
    return {part for part, here in has.items() if here}


def useful(record: Record, tasks: tuple[str, ...], training: bool) -> bool:
    """Whether a picture serves, in training, every task, or in evaluation any."""
    found = [bool(known(record) & set(parts(task, training))) for task in tasks]
    return all(found) if training else any(found)


def has_truth(sample: Sample, task: str) -> bool:
    """Whether a sample has what the task is measured against."""
    has: dict[Part, bool] = {
        "regions": sample.segments is not None or sample.label_map is not None,
        "objects": sample.objects is not None,
        "references": sample.phrases is not None,
        "captions": bool(sample.captions),
        "texts": bool(sample.captions),
        "label": sample.label is not None,
        "questions": bool(sample.questions),
    }
    return has[descriptor_of(task).needs]
