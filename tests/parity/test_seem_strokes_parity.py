"""Strokes and clicks of SEEM as published: made-up strokes by their statistics, clicks pixel by pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.parity.recorded import unpacked
from xdecoder.seem.clicks import distance, mark, next_click
from xdecoder.seem.strokes import draw_stroke

DRAWN = 400


@pytest.fixture(scope="module")
def clicks(oracle: Path) -> dict[str, Any]:
    return torch.load(oracle / "seem/values/focalt_v1_click.pt", weights_only=True)


@pytest.fixture(scope="module")
def statistics(oracle: Path) -> dict[str, Any]:
    return torch.load(oracle / "seem/values/focalt_v1_stroke_statistics.pt", weights_only=True)


def test_next_click(clicks: dict[str, Any]) -> None:
    truth, positive, negative = (unpacked(clicks[name]) for name in ("gt", "pos_in", "neg_in"))
    logits = F.interpolate(clicks["prev_mask"], size=truth.shape[-2:], mode="bilinear", align_corners=False)[0]
    for i, predicted in enumerate(logits.sigmoid() > 0.5):
        if click := next_click(truth[i], predicted, positive[i] | negative[i], "published"):
            mark(positive[i] if click.positive else negative[i], click)
    assert torch.equal(positive, unpacked(clicks["pos_out"])) and torch.equal(negative, unpacked(clicks["neg_out"]))


def test_distance(clicks: dict[str, Any]) -> None:
    for region, recorded in zip(unpacked(clicks["gt"]), clicks["distance_of_gt01"], strict=False):
        assert torch.allclose(distance(region, "published"), recorded, atol=1e-6)


@pytest.mark.parametrize("kind", ["point", "polygon", "scribble", "circle"])
@pytest.mark.parametrize(("size", "ellipse"), [("large", (128, 190, 90, 130)), ("small", (60, 60, 12, 18))])
def test_strokes(kind: str, size: str, ellipse: tuple[int, int, int, int], statistics: dict[str, Any]) -> None:
    """As many as were recorded; means agree within three standard errors of their difference."""
    recorded = statistics[f"{size}_{kind}"]
    row, column, height, width = ellipse
    rows, columns = torch.meshgrid(torch.arange(256), torch.arange(384), indexing="ij")
    mask = ((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 <= 1
    assert mask.sum() == recorded["mask_area"]
    rng = np.random.default_rng(0)
    drawn = torch.stack([draw_stroke(mask, kind, rng).positive for _ in range(DRAWN)])
    areas = drawn.sum(dim=(1, 2)).double()
    error = 3 * recorded["area_std"] * (2 / DRAWN) ** 0.5
    assert abs(areas.mean().item() - recorded["area_mean"]) < error
    assert areas.std().item() == pytest.approx(recorded["area_std"], rel=0.2)
    assert (areas == 0).double().mean().item() == pytest.approx(recorded["empty_fraction"], abs=0.01)
    inside = (drawn & mask).sum(dim=(1, 2)) / areas.clamp(min=1)
    assert inside.mean().item() == pytest.approx(recorded["inside_fraction"], abs=0.01)
    for axis, side in ((2, "height"), (1, "width")):
        extents = [int(line[-1] - line[0]) + 1 for line in map(torch.Tensor.nonzero, drawn.any(dim=axis)) if len(line)]
        assert sum(extents) / DRAWN == pytest.approx(recorded[f"{side}_mean"], rel=0.1)
