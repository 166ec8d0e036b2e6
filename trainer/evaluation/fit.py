"""Settings that are fitted to a network's own answers on validation data, and carried by its checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from datasets.loader import evaluation_loader
from datasets.streams import EvaluationConfig, resolve
from trainer.evaluation.evaluation import NetworkSource
from trainer.logging import Progress
from xdecoder import checkpoint
from xdecoder.config import ConfigError
from xdecoder.resizing import ShortestEdge, ShortestSide, Stretch
from xdecoder.tasks import referring
from xdecoder.types import Batch

Answered = Iterator[tuple[Batch, list[Any]]]
Fitted = tuple[dict[str, Any], dict[str, Any]]  # settings of a task, and what came of them where they were fitted


def fit(source: NetworkSource, path: Path, keep: float) -> dict[str, dict[str, Any]]:
    """Fit what the entries of `data.fit` are for, and write it into the network's file; what was fitted, by task.

    Args:
        path: the network's file.
        keep: share, 0 to 1, of the phrases that mean something which shall still be found.

    Raises:
        ConfigError: if the experiment names nothing to fit on, or says itself what would be fitted.
        ValueError: for a file that is not ours, and for sets that do not tell what is needed.
    """
    entries = source.config.data.fit
    if not entries:
        raise ConfigError("data.fit: there is nothing to fit on; list sets there, such as shapes_absent_fit")
    content = checkpoint.read(path)
    protocol = checkpoint.interpret(content, path).protocol
    settings = {task: dict(values) for task, values in protocol.fitted.items()}
    came = {task: dict(values) for task, values in protocol.fitted_on.items()}
    images = dict(protocol.images)
    for entry in entries:
        for task in entry.tasks:
            if task not in FITS:
                raise ConfigError(f"data.fit: nothing is fitted for task {task!r}, only for {', '.join(FITS)}")
            settings[task], found = FITS[task](source, entry, keep)
            came[task] = {"dataset": resolve(entry.dataset).name, **found}
            if isinstance(entry.transform, (ShortestEdge, ShortestSide, Stretch)):
                images.setdefault(task, entry.transform)  # or what fits pictures of this size would be asked of others
    update = {"fitted": settings, "fitted_on": came, "images": images}
    content["protocol"] = protocol.model_copy(update=update).model_dump(mode="json")
    checkpoint.write(content, path)
    return came


def _answers(source: NetworkSource, entry: EvaluationConfig) -> Answered:
    """What the network says of each batch of an entry, without anything that was fitted before."""
    loader = evaluation_loader(entry, source.config.data.root, workers=source.config.data.workers)
    answer = NetworkSource(source.model, source.config, source.device, unfitted=True).answers(
        entry, loader.dataset.source.spec, loader
    )
    with Progress(len(loader), f"fitting on {entry.prefix}") as progress, torch.inference_mode():
        for batch in loader:
            yield batch, answer(entry.tasks, batch)[entry.tasks[0]]
            progress.advance()


def _threshold(source: NetworkSource, entry: EvaluationConfig, keep: float) -> Fitted:
    """The least cosine of a phrase that means something: as high as lets `keep` of them through."""
    if source.config.tasks.of(referring.DESCRIPTOR.name).threshold is not None:
        raise ConfigError(f"tasks.{referring.DESCRIPTOR.name}.threshold is set, so there is nothing to fit; leave it out")
    present, absent = [], []
    for batch, results in _answers(source, entry):
        for sample, result in zip(batch.samples, results, strict=True):
            assert sample.phrases is not None
            meant = sample.phrases.masks.flatten(1).any(dim=1)
            present += result.scores[meant].tolist()
            absent += result.scores[~meant].tolist()
    threshold = threshold_for(present, keep)
    refused = sum(score < threshold for score in absent) / len(absent) if absent else math.nan
    kept = sum(score >= threshold for score in present) / len(present)
    counts = {"phrases": len(present), "absent": len(absent)}
    return {"threshold": threshold}, {"threshold": threshold, **counts, "T_acc": 100 * kept, "N_acc": 100 * refused}


def threshold_for(present: Sequence[float], keep: float) -> float:
    """The highest threshold that at least a share `keep` of these scores reaches; raises ValueError for no scores."""
    if not present:
        raise ValueError("a threshold is fitted to phrases that mean something, of which this set has none")
    ranked = sorted(present, reverse=True)
    return ranked[max(math.ceil(keep * len(ranked)), 1) - 1]


FITS: Mapping[str, Any] = {referring.DESCRIPTOR.name: _threshold}
"""By task, what fits it."""
