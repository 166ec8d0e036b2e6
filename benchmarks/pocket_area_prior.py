"""What phrases score without looking: the part of a picture in which things mostly lie, whatever the phrase says.

python benchmarks/pocket_area_prior.py data.root=FOLDER

The prior is the mean of the training sets' large objects at 64 × 64, cut where that is best on the training sets themselves.
RefCOCO's phrases mean the larger objects of a picture, hence the least share of its area.
Measured: cIoU 11.8 (703 objects), for the whole picture 10.5.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from pocket_common import options
from torch import Tensor

from datasets.catalog import find
from datasets.dataset import ImageDataset
from datasets.evaluators.referring import ReferringEvaluator
from xdecoder.resizing import Stretch
from xdecoder.types import ReferringResult

SIDE, LEAST = 64, 0.03
SETS = ("coco_mini_train", "coco_more_train")


def objects(root: Path) -> Iterator[Tensor]:
    """Masks (SIDE, SIDE) of single things that cover enough of their picture."""
    for name in SETS:
        dataset = ImageDataset(find(name), root, Stretch(size=SIDE), ["segmentation"], training=False)
        for i in range(len(dataset)):
            segments = dataset[i].segments
            assert segments is not None
            for mask in segments.masks[~segments.crowd]:
                small = F.interpolate(mask[None, None].float(), size=(SIDE, SIDE), mode="area")[0, 0]
                if small.mean() >= LEAST:
                    yield small


def best_cut(prior: Tensor, masks: Tensor) -> float:
    """Where to cut the prior for the best cumulative IoU with the objects that it was made of."""
    scores = {}
    for cut in torch.linspace(0.02, float(prior.max()) - 0.01, 40).tolist():
        inside = prior >= cut
        shared = (masks * inside).sum()
        scores[cut] = float(shared / (masks.sum() + len(masks) * inside.sum() - shared))
    return max(scores, key=lambda cut: scores[cut])


def main() -> None:
    _, config = options(__doc__, seconds=0)
    masks = torch.stack(list(objects(config.data.root)))
    prior = masks.mean(dim=0)
    cut = best_cut(prior, masks)
    dataset = ImageDataset(find("coco_refs"), config.data.root, Stretch(size=32), ["referring"], training=False)
    scores = {}
    for name, at in (("prior", cut), ("whole picture", -1.0)):
        evaluator = ReferringEvaluator()
        for i in range(len(dataset)):
            sample = dataset[i]
            assert sample.phrases is not None
            mask = F.interpolate(prior[None, None], size=sample.output_size, mode="bilinear")[0, 0] >= at
            count = len(sample.phrases.texts)
            evaluator.update(ReferringResult(mask.expand(count, -1, -1), torch.zeros(count)), sample)
        scores[name] = {key: round(value, 2) for key, value in evaluator.compute().items() if "IoU" in key}
    print(json.dumps({"objects": len(masks), "cut": round(cut, 3), **scores}))


if __name__ == "__main__":
    main()
