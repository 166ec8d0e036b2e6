"""Which threshold makes the best panoptic maps: fitted on pictures that are neither learnt from nor reported on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from datasets.evaluators.panoptic import PanopticEvaluator
from datasets.loader import evaluation_loader
from datasets.streams import EvaluationConfig
from xdecoder import postprocessing
from xdecoder.network import Network
from xdecoder.tasks.segmentation import SegmentationConfig, segments_of, vocabulary_of
from xdecoder.types import Batch, SegmentationResult, Segments

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(2, 17))  # 0.1 … 0.8


@torch.inference_mode()
def fit_threshold(
    model: Network,
    entry: EvaluationConfig,
    root: Path,
    settings: SegmentationConfig,
    thresholds: Sequence[float] = THRESHOLDS,
) -> dict[float, float]:
    """Panoptic quality of things, in percent, at each threshold of how likely a query's class must be.

    Where a set annotates things alone, everything else is void, which predictions may cover unpunished; where its objects
    overlap, the smaller one is seen in front.
    """
    loader = evaluation_loader(entry, root)
    assert loader.dataset.vocabulary is not None
    evaluators = {threshold: PanopticEvaluator(loader.dataset.vocabulary) for threshold in thresholds}
    for batch in loader:
        features = model.encode(batch.images)
        for number in range(len(batch)):
            _measure(model, features, batch, number, settings, evaluators)
    return {threshold: evaluator.compute()["PQ_things"] for threshold, evaluator in evaluators.items()}


def _measure(
    model: Network,
    features: object,
    batch: Batch,
    number: int,
    settings: SegmentationConfig,
    evaluators: dict[float, PanopticEvaluator],
) -> None:
    vocabulary, sample = vocabulary_of(batch), batch.samples[number]
    found = model.evidence(features, vocabulary.prompts, settings, number)
    masks = found.resized(sample.output_size)
    is_thing = torch.tensor(vocabulary.is_thing)[found.labels]
    shown = replace(sample, segments=disjoint(segments_of(batch)[number]))
    for threshold, evaluator in evaluators.items():
        config = settings.postprocessing.model_copy(update={"object_threshold": threshold})
        result = SegmentationResult(None, None, postprocessing.panoptic(found.probabilities, masks, is_thing, config))
        evaluator.update(postprocessing.relabelled(result, found.labels), shown)


def disjoint(segments: Segments) -> Segments:
    """Regions that share no pixel: of those that overlap the smaller one keeps it; what is then wholly covered is left out."""
    order = segments.masks.flatten(1).sum(dim=1).argsort()
    taken, masks = torch.zeros_like(segments.masks[:1].any(dim=0)) if len(order) else None, segments.masks.clone()
    for i in order.tolist():
        assert isinstance(taken, Tensor)
        masks[i] &= ~taken
        taken |= masks[i]
    kept = masks.flatten(1).any(dim=1)
    return Segments(masks[kept], segments.labels[kept], segments.crowd[kept])
