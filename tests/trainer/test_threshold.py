"""The threshold of panoptic maps, fitted on held-out pictures."""

from __future__ import annotations

from pathlib import Path

import torch

from datasets.streams import EvaluationConfig
from tests.tiny import tiny_model, tiny_tasks
from trainer.threshold import disjoint, fit_threshold
from xdecoder.types import Segments


def test_the_smaller_region_is_in_front() -> None:
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[0, :, :], masks[1, :2, :2], masks[2, :1, :2] = True, True, True
    covered = torch.cat([masks, masks[2:]])  # a fourth one that is all taken
    found = disjoint(Segments(covered, torch.tensor([5, 6, 7, 8]), torch.zeros(4, dtype=torch.bool)))
    assert found.labels.tolist() == [5, 6, 7] and found.masks.sum(dim=0).max() == 1
    assert [int(mask.sum()) for mask in found.masks] == [12, 2, 2]
    nothing = Segments(masks[:0], torch.zeros(0).long(), torch.zeros(0).bool())
    assert len(disjoint(nothing).masks) == 0


def test_each_threshold_gets_its_score(shared: Path) -> None:
    entry = EvaluationConfig(
        dataset="coco_more_val", tasks=("segmentation",), transform={"name": "stretch", "size": 64}, limit=3
    )
    scores = fit_threshold(tiny_model(), entry, shared / "data", tiny_tasks().segmentation, (0.0, 0.99))
    assert list(scores) == [0.0, 0.99] and all(0 <= score <= 100 for score in scores.values())
    assert scores[0.99] == 0, "a network that knows nothing is never so sure"
