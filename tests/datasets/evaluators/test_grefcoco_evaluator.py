"""gRefCOCO's measures against the definitions, written out over pixels."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch

from datasets.evaluators.grefcoco import GrefcocoEvaluator
from xdecoder.types import Phrases, ReferringResult, Sample

SIZE = (5, 6)


def drawn(rng: random.Random) -> np.ndarray:
    """A mask that is empty, full, small or anything."""
    return np.random.default_rng(rng.getrandbits(32)).random(SIZE) < rng.choice([0.0, 0.03, 0.5, 1.0])


def picture(rng: random.Random, number: int) -> tuple[Sample, ReferringResult]:
    count = rng.randrange(5)
    true = [drawn(rng) if rng.random() < 0.6 else np.zeros(SIZE, bool) for _ in range(count)]
    predicted = [mask if rng.random() < 0.3 else drawn(rng) for mask in true]
    kinds = tuple(("one" if mask.any() else rng.choice(["easy", "hard"])) for mask in true)
    phrases = Phrases(tuple(f"phrase {i}" for i in range(count)), stacked(true), kinds=kinds)
    scores = torch.tensor([rng.choice([0.1, 0.25, 0.5, 0.5, rng.random()]) for _ in range(count)], dtype=torch.float64)
    found = torch.tensor([rng.random() < 0.6 for _ in range(count)], dtype=torch.bool)
    sample = Sample(number, torch.zeros(3, *SIZE, dtype=torch.uint8), SIZE, phrases=phrases)
    return sample, ReferringResult(stacked(predicted), scores, found)


def stacked(masks: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(masks)) if masks else torch.zeros(0, *SIZE, dtype=torch.bool)


def written_out(cases: list[tuple[Sample, ReferringResult]]) -> dict[str, float]:
    """One loop over expressions, counting pixel by pixel."""
    gains, shared, union, ious = [], 0, 0, []
    counts = dict.fromkeys(("void", "void right", "meant", "meant right"), 0)
    kinds: dict[str, list[bool]] = {}
    present, absent = [], []
    for sample, result in cases:
        for i, kind in enumerate(sample.phrases.kinds):
            pixels = [
                (bool(p), bool(t))
                for p, t in zip(result.masks[i].flatten().tolist(), sample.phrases.masks[i].flatten().tolist(), strict=True)
            ]
            inter, either = sum(p and t for p, t in pixels), sum(p or t for p, t in pixels)
            target, found, score = any(t for _, t in pixels), bool(result.found[i]), float(result.scores[i])
            kinds.setdefault(("T_acc_" if target else "N_acc_") + kind, []).append(found == target)
            if target:
                present.append(score)
                counts["meant"] += 1
                counts["meant right"] += found
                iou = inter / either if found else 0.0
                gains.append(iou)
                ious.append(iou)
                shared, union = shared + (inter if found else 0), union + either
            else:
                absent.append((score, kind))
                counts["void"] += 1
                counts["void right"] += not found
                gains.append(0.0 if found else 1.0)
                union += either if found else 0

    def area(scores: list[float]) -> float:
        wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in present for b in scores]
        return 100 * sum(wins) / len(wins) if wins else math.nan

    def share(part: float, whole: float) -> float:
        return 100 * part / whole if whole else math.nan

    nothing_wrongly = counts["meant"] - counts["meant right"]
    scores = {
        "gIoU": share(sum(gains), len(gains)),
        "cIoU": share(shared, union),
        "N_acc": share(counts["void right"], counts["void"]),
        "T_acc": share(counts["meant right"], counts["meant"]),
        **{f"precision@{t}": share(sum(iou >= t for iou in ious), len(ious)) for t in (0.7, 0.8, 0.9)},
        "AUROC": area([score for score, _ in absent]),
        "T_acc_published": share(counts["void right"], counts["void right"] + nothing_wrongly + 1),
        "N_acc_published": share(counts["void right"], counts["void"] + 1),
        **{name: share(sum(right), len(right)) for name, right in kinds.items()},
    }
    for kind in {kind for _, kind in absent}:
        scores[f"AUROC_{kind}"] = area([score for score, own in absent if own == kind])
    return {f"grefcoco_{name}": value for name, value in scores.items()}


def test_as_the_definitions_say_on_random_and_hostile_cases() -> None:
    """Empty on either side or both, ties of scores, pictures without expressions, sets without any target or all with one."""
    for seed in range(200):
        rng = random.Random(seed)
        cases = [picture(rng, number) for number in range(rng.randrange(6))]
        evaluator = GrefcocoEvaluator()
        for sample, result in cases:
            evaluator.update(result, sample)
        found, expected = evaluator.compute(), written_out(cases)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=1e-12, abs=1e-12, nan_ok=True), (seed, name)


def test_half_a_score_a_picture() -> None:
    """A phrase that means nothing and is refused is worth 1, one that is there and refused 0."""
    masks = torch.zeros(2, *SIZE, dtype=torch.bool)
    masks[0, 2] = True
    sample = Sample("a", torch.zeros(3, *SIZE, dtype=torch.uint8), SIZE, phrases=Phrases(("here", "nowhere"), masks))
    evaluator = GrefcocoEvaluator()
    evaluator.update(ReferringResult(masks, torch.tensor([0.5, 0.4]), torch.tensor([False, False])), sample)
    assert evaluator.per_image() == {"a": 50.0} and evaluator.compute()["grefcoco_T_acc"] == 0.0
    evaluator.update(ReferringResult(masks, torch.tensor([0.5, 0.4])), sample)  # what has pixels is there
    assert evaluator.per_image() == {"a": 100.0} and evaluator.compute()["grefcoco_cIoU"] == 100.0
    with pytest.raises(ValueError, match="picture a: 1 masks for 2 phrases"):
        evaluator.update(ReferringResult(masks[:1], torch.tensor([0.5])), sample)
