"""How fast panoptic quality is counted, against a plain loop over segments as the definition reads, in one run.

The pictures are the 100 of ../shared/data/coco_panoptic where these are, else made-up ones of the same size and as many
segments; predictions are their annotations, shifted and in part renamed. Both must give the same numbers.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the rooms beside this one are not installed

import numpy as np
import torch

from datasets.catalog import find
from datasets.dataset import ImageDataset
from datasets.evaluators import PanopticEvaluator
from xdecoder.resizing import Stretch
from xdecoder.types import PanopticResult, PanopticSegment, Sample, Segments, Vocabulary

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
Case = tuple[PanopticResult, Sample]


def loop(cases: list[Case], classes: int) -> float:
    """PQ: each found segment is compared with each true one of its class, mask by mask."""
    iou, tp, fp, fn = Counter(), Counter(), Counter(), Counter()
    for result, sample in cases:
        ids, truth = result.ids.numpy(), sample.segments
        masks, labels, crowd = truth.masks.numpy(), truth.labels.tolist(), truth.crowd.tolist()
        void = ~masks.any(0)
        matched = set()
        for segment in result.segments:
            mask = ids == segment.id
            hit = False
            for i, true in enumerate(masks):
                if labels[i] != segment.label or crowd[i]:
                    continue
                inter = np.logical_and(mask, true).sum()
                union = np.logical_or(mask, true).sum() - np.logical_and(mask, void).sum()
                if inter / union > 0.5:
                    iou[segment.label] += inter / union
                    tp[segment.label] += 1
                    matched.add(i)
                    hit = True
            if not hit:
                ignored = np.logical_and(mask, void).sum()
                groups = [masks[i] for i in range(len(masks)) if crowd[i] and labels[i] == segment.label]
                ignored += np.logical_and(mask, groups[-1]).sum() if groups else 0
                fp[segment.label] += bool(ignored / mask.sum() <= 0.5)
        for i, label in enumerate(labels):
            fn[label] += i not in matched and not crowd[i]
    weights = {c: tp[c] + fp[c] / 2 + fn[c] / 2 for c in range(classes)}
    rows = [iou[c] / weight for c, weight in weights.items() if weight]
    return 100 * sum(rows) / len(rows)


def real() -> tuple[list[Sample], Vocabulary]:
    spec = find("coco_kit_val")
    dataset = ImageDataset(spec, DATA, Stretch(size=32), ["segmentation"], training=False)
    assert dataset.vocabulary is not None
    return [dataset[i] for i in range(len(dataset))], dataset.vocabulary


def made_up(images: int) -> tuple[list[Sample], Vocabulary]:
    rng, samples = np.random.default_rng(0), []
    for id in range(images):
        labels = rng.integers(0, 133, 11)
        centres = rng.integers(0, [480, 640], (12, 2))  # the last is void
        distance = ((np.indices((480, 640))[:, None] - centres.T[:, :, None, None]) ** 2).sum(0)
        nearest = distance.argmin(0)
        present = [i for i in range(11) if (nearest == i).any()]
        masks = torch.from_numpy(np.stack([nearest == i for i in present]))
        segments = Segments(masks, torch.from_numpy(labels[present]), torch.from_numpy(rng.random(len(present)) < 0.05))
        samples.append(Sample(id, torch.zeros(3, 1, 1, dtype=torch.uint8), (480, 640), segments))
    return samples, Vocabulary(tuple(f"class {i}" for i in range(133)), tuple(i < 80 for i in range(133)))


def predicted(sample: Sample, rng: np.random.Generator) -> PanopticResult:
    """The annotation moved by a few pixels, one segment in five under another name."""
    truth = sample.segments
    ids = torch.zeros(sample.output_size, dtype=torch.int32)
    for number, mask in enumerate(truth.masks, 1):
        ids[mask] = number
    ids = torch.roll(ids, tuple(rng.integers(-6, 7, 2).tolist()), (0, 1))
    present = set(ids.unique().tolist()) - {0}
    names = [label if rng.random() < 0.8 else int(rng.integers(0, 133)) for label in truth.labels.tolist()]
    return PanopticResult(ids, tuple(PanopticSegment(i, names[i - 1], True, 1.0) for i in sorted(present)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measurements, of which the fastest counts (default: 3)")
    options = parser.parse_args()
    samples, vocabulary = real() if DATA.is_dir() else made_up(100)
    rng = np.random.default_rng(0)
    cases = [(predicted(sample, rng), sample) for sample in samples]

    def ours() -> float:
        evaluator = PanopticEvaluator(vocabulary)
        for case in cases:
            evaluator.update(*case)
        return evaluator.compute()["PQ"]

    seconds: dict[str, float] = {"evaluator": float("inf"), "loop": float("inf")}
    scores = {}
    for _ in range(options.rounds):
        for name, count in (("evaluator", ours), ("loop", lambda: loop(cases, len(vocabulary)))):
            start = time.perf_counter()
            scores[name] = count()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    assert abs(scores["evaluator"] - scores["loop"]) < 1e-9, f"the two disagree: {scores}"
    print(f"{'':<12}{'PQ':>10}{'ms/picture':>12}")
    for name in seconds:
        print(f"{name:<12}{scores[name]:>10.4f}{1000 * seconds[name] / len(cases):>12.2f}")
    ratio = seconds["loop"] / seconds["evaluator"]
    print(f"{ratio:.1f} times as fast on {len(cases)} {'real' if DATA.is_dir() else 'made-up'} pictures")
    print(json.dumps({"benchmark": "panoptic_quality", "ratio": round(ratio, 2), "seconds": seconds, "PQ": scores["loop"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
