"""How sure segments are against how often they are right, written out."""

from __future__ import annotations

import random

import pytest
import torch

from datasets.evaluators.calibration import BINS, CalibrationEvaluator
from trainer.evaluation.fit import temperature_for
from trainer.report.charts import reliability
from xdecoder.types import PanopticResult, PanopticSegment, Sample, SegmentationResult, Segments

SIZE = (4, 6)


def picture(rng: random.Random, number: int) -> tuple[SegmentationResult, Sample]:
    true = torch.tensor([[rng.randrange(4) for _ in range(SIZE[1])] for _ in range(SIZE[0])])
    ids = torch.where(torch.rand(SIZE, generator=torch.Generator().manual_seed(number)) < 0.8, true, 0).to(torch.int32)
    masks = torch.stack([true == i for i in (1, 2, 3)])
    crowd = torch.tensor([False, False, rng.random() < 0.3])
    labels = torch.tensor([rng.randrange(2) for _ in range(3)])
    segments = tuple(PanopticSegment(i, rng.randrange(2), True, rng.choice([0.3, 0.7, 1.0, rng.random()])) for i in (1, 2, 3))
    sample = Sample(number, torch.zeros(3, *SIZE, dtype=torch.uint8), SIZE, Segments(masks, labels, crowd))
    return SegmentationResult(None, None, PanopticResult(ids, segments)), sample


def test_as_written_out() -> None:
    for seed in range(40):
        rng, evaluator = random.Random(seed), CalibrationEvaluator()
        bins: dict[int, list[tuple[float, bool]]] = {}
        for number in range(rng.randrange(1, 5)):
            result, sample = picture(rng, number)
            evaluator.update(result, sample)
            truths = list(
                zip(sample.segments.masks, sample.segments.labels.tolist(), sample.segments.crowd.tolist(), strict=True)
            )
            for segment in result.panoptic.segments:
                mine = {(int(r), int(c)) for r, c in (result.panoptic.ids == segment.id).nonzero()}
                sets = [({(int(r), int(c)) for r, c in mask.nonzero()}, label) for mask, label, crowd in truths if not crowd]
                annotated = set().union(*(pixels for pixels, _ in sets))
                if not mine or len(mine & annotated) * 2 < len(mine):
                    continue
                right = any(label == segment.label and len(mine & t) > 0.5 * len(mine | t) for t, label in sets)
                bins.setdefault(min(int(segment.score * BINS), BINS - 1), []).append((segment.score, right))
        count = sum(len(rows) for rows in bins.values())
        gaps = [
            abs(sum(s for s, _ in rows) / len(rows) - sum(r for _, r in rows) / len(rows)) * len(rows) for rows in bins.values()
        ]
        found = evaluator.compute()["ECE"]
        assert found == pytest.approx(100 * sum(gaps) / count if count else float("nan"), abs=1e-9, nan_ok=True)
        charts = evaluator.charts()
        assert bool(charts) == bool(count)
        if count:
            assert sum(row[2] for row in charts["reliability"]) == count
            assert reliability(charts["reliability"]).count("<circle") == len(bins)


def test_the_temperature_is_found_again() -> None:
    """Labels are drawn from logits that were then made three times as sure, or half as sure, as they should be."""
    generator = torch.Generator().manual_seed(0)
    honest = torch.randn(4000, 5, generator=generator, dtype=torch.float64) * 2
    labels = torch.multinomial(honest.softmax(-1), 1, generator=generator)[:, 0]
    for sure in (3.0, 0.5):
        right = honest.argmax(dim=1) == labels
        assert temperature_for(honest * sure, right) == pytest.approx(sure, rel=0.1)
