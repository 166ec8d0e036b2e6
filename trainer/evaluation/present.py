"""Pictures that are asked only for the classes that their annotation holds (oracle prompts)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from xdecoder.postprocessing import relabelled
from xdecoder.types import Batch, InstanceResult, PanopticResult, Sample, SegmentationResult, Vocabulary


def answers(
    answer: Callable[[Sequence[str], Batch], dict[str, list[Any]]], names: Sequence[str], batch: Batch
) -> dict[str, list[Any]]:
    """What `answer` says of each picture by itself, with the vocabulary that is present in it; labels are the set's.

    Raises:
        ValueError: for a set without classes.
    """
    if batch.vocabulary is None:
        raise ValueError(f"data set {batch.source!r} has no classes, of which some could be present (vocabulary: present)")
    found: dict[str, list[Any]] = {name: [] for name in names}
    for sample in batch.samples:
        labels = _labels(sample)
        own = _part(batch.vocabulary, labels.tolist())
        alone = replace(batch, samples=(sample,), vocabulary=own)
        for name, (result,) in (answer(names, alone) if len(labels) else {}).items():
            found[name].append(relabelled(result, labels) if isinstance(result, SegmentationResult) else result)
        if not len(labels):
            for results in found.values():
                results.append(_nothing(sample))
    return found


def _labels(sample: Sample) -> torch.Tensor:
    """The classes of an annotation, ascending."""
    labels = [] if sample.segments is None else sample.segments.labels.tolist()
    if sample.label_map is not None:
        labels += sample.label_map.unique().tolist()
    return torch.tensor(sorted({label for label in labels if label >= 0}), dtype=torch.int64)


def _part(vocabulary: Vocabulary, labels: Sequence[int]) -> Vocabulary:
    texts = tuple(vocabulary.texts[label] for label in labels) if vocabulary.texts else ()
    names, things = vocabulary.names, vocabulary.is_thing
    return Vocabulary(tuple(names[label] for label in labels), tuple(things[label] for label in labels), texts)


def _nothing(sample: Sample) -> SegmentationResult:
    """Of a picture in which no class is annotated, and so none was asked for."""
    size = sample.output_size
    empty = InstanceResult(torch.zeros(0, *size, dtype=torch.bool), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    panoptic = PanopticResult(torch.zeros(size, dtype=torch.int32), ())
    return SegmentationResult(torch.full(size, -1, dtype=torch.int64), empty, panoptic)
