"""Settings that are fitted to a network's own answers on validation data, and carried by its checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.loader import evaluation_loader
from datasets.streams import EvaluationConfig, resolve
from trainer.evaluation.evaluation import NetworkSource
from trainer.logging import Progress
from xdecoder import checkpoint
from xdecoder.config import ConfigError
from xdecoder.postprocessing import Evidence
from xdecoder.resizing import ShortestEdge, ShortestSide, Stretch
from xdecoder.tasks import referring, segmentation
from xdecoder.types import Batch, Sample

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


def _temperature(source: NetworkSource, entry: EvaluationConfig, keep: float) -> Fitted:
    """What class logits are divided by, so that scores of regions are as sure as they are right (after Guo et al., ICML 2017).

    Of the queries that would be shown: a region's class is right if it is that of the annotated region with which its mask has
    an IoU above 0.5.
    """
    name = segmentation.DESCRIPTOR.name
    if "temperature" in source.config.tasks.of(name).model_fields_set:
        raise ConfigError(f"tasks.{name}.temperature is set, so there is nothing to fit; leave it out")
    chances, wanted = [], []
    loader = evaluation_loader(entry, source.config.data.root, workers=source.config.data.workers)
    settings = (
        NetworkSource(source.model, source.config, source.device, unfitted=True).settings(loader.dataset.source.spec).of(name)
    )
    with Progress(len(loader), f"fitting on {entry.prefix}") as progress, torch.inference_mode():
        for batch in loader:
            assert batch.vocabulary is not None
            features = source.model.encode([image.to(source.device) for image in batch.images])
            for i, sample in enumerate(batch.samples):
                found = source.model.evidence(features, batch.vocabulary.prompts, settings, i)
                chances.append(found.probabilities.double().cpu())
                wanted.append(_true_classes(found, sample))
            progress.advance()
    logits, labels = torch.cat(chances).clamp(min=1e-30).log(), torch.cat(wanted)
    scores, found_classes = logits.exp().max(dim=1)
    shown = (found_classes != logits.shape[1] - 1) & (scores >= settings.postprocessing.object_threshold)
    if not shown.any():
        raise ValueError(f"data set {entry.prefix!r}: the network shows no region on it, so no temperature can be fitted")
    logits, right = logits[shown], found_classes[shown] == labels[shown]
    temperature = temperature_for(logits, right)
    before, after = (surprise(logits, right, t) for t in (1.0, temperature))
    return {"temperature": temperature}, {
        "temperature": temperature,
        "regions": len(right),
        "nll": after,
        "nll_before": before,
    }


def _true_classes(found: Evidence, sample: Sample) -> Tensor:
    """Of each query (N,) the place of its true class among the probabilities, of which the background's is the last."""
    assert sample.segments is not None
    drawn, true = found.resized(sample.output_size).inside().cpu().flatten(1).float(), sample.segments.masks.flatten(1).float()
    shared = drawn @ true.T
    ious = shared / (drawn.sum(1, keepdim=True) + true.sum(1)[None] - shared).clamp(min=1)
    background = found.probabilities.shape[1] - 1
    place = {label: i for i, label in enumerate(found.labels.tolist())}  # early rejection may have left classes out
    rows = []
    for row in ious:
        best = int(row.argmax()) if len(row) else -1
        label = int(sample.segments.labels[best]) if best >= 0 and row[best] > 0.5 else -1
        rows.append(place.get(label, background))
    return torch.tensor(rows)


def surprise(logits: Tensor, right: Tensor, temperature: float) -> float:
    """Mean negative log-likelihood of whether the likeliest classes of logits (N, K) are right, (N,) bool."""
    scores = (logits / temperature).softmax(dim=1).amax(dim=1).clamp(max=1 - 1e-12)
    return float(F.binary_cross_entropy(scores, right.to(scores.dtype)))


def temperature_for(logits: Tensor, right: Tensor) -> float:
    """The temperature, from 0.1 to 10, with which logits (N, K) say best whether they are right, (N,) bool; to a thousandth."""
    low, high = math.log(0.1), math.log(10.0)
    ratio = (math.sqrt(5) - 1) / 2

    while high - low > 1e-3:  # golden section: the loss falls, then rises
        inner, outer = high - ratio * (high - low), low + ratio * (high - low)
        better = surprise(logits, right, math.exp(inner)) < surprise(logits, right, math.exp(outer))
        low, high = (low, outer) if better else (inner, high)
    return math.exp((low + high) / 2)


FITS: Mapping[str, Any] = {referring.DESCRIPTOR.name: _threshold, segmentation.DESCRIPTOR.name: _temperature}
"""By task, what fits it."""
