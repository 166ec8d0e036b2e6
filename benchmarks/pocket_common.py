"""What the rivals of the pocket network share: its data, its backbone, its optimiser's settings, and a clock of CPU seconds."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the rooms beside this one are not installed

from datasets.catalog import find
from datasets.dataset import ImageDataset
from trainer.experiment import ExperimentConfig
from trainer.optim import parameter_groups
from xdecoder.backbones.timm import TimmConfig
from xdecoder.config import load
from xdecoder.model import XDecoder
from xdecoder.resizing import Stretch
from xdecoder.types import Batch, Sample

CONFIG = ROOT / "configs/pocket/photographs.yaml"
WARMUP = 50  # steps
LEARNT = ("flickr8k_train", "flickr8k_train_more", "coco_more_train", "coco_mval_kit_train")


def options(description: str | None, seconds: float) -> tuple[argparse.Namespace, ExperimentConfig]:
    """The line of a rival's script, and the pocket network's experiment."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="key.sub=value", help="such as data.root=FOLDER")
    parser.add_argument("--seconds", type=float, default=seconds, help="CPU seconds of training, of all threads together")
    given = parser.parse_args()
    config = load(ExperimentConfig, CONFIG, given.settings)
    torch.manual_seed(config.seed)
    return given, config


def backbone(config: ExperimentConfig) -> nn.Module:
    """EfficientNet-Lite0 with ImageNet's weights, as ours begins with it."""
    assert isinstance(config.model.backbone, TimmConfig)
    return config.model.backbone.build()


def pixels(batch: Batch) -> Tensor:
    """Normalised and padded as for ours."""
    return XDecoder.prepare(batch.images, torch.device("cpu"))


def learn(
    net: nn.Module,
    loss_of: Callable[[Any], Tensor],
    batches: Iterable[Any],
    seconds: float,
    rate: float,
    decay: float = 0.05,
    multipliers: dict[str, float] | None = None,
    step_done: Callable[[int], None] = lambda step: None,
) -> int:
    """Train for so many CPU seconds with a cosine over them; returns the number of steps."""
    groups = parameter_groups(net, rate, decay, multipliers or {})
    optimizer = torch.optim.AdamW(groups, rate)
    full = [group["lr"] for group in optimizer.param_groups]
    start, steps = time.process_time(), 0
    for batch in batches:
        passed = (time.process_time() - start) / seconds
        if passed >= 1:
            break
        scale = min((steps + 1) / WARMUP, 1) * 0.5 * (1 + math.cos(passed * math.pi))
        for group, own in zip(optimizer.param_groups, full, strict=True):
            group["lr"] = own * scale
        net.train()
        loss = loss_of(batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        steps += 1
        if steps % 50 == 0:
            print(f"step {steps}  loss {loss.item():.3f}  {passed:.0%}", flush=True)
        step_done(steps)
    return steps


def captioned(name: str, root: Path) -> list[Sample]:
    """All pictures of a set at 224 × 224 with their captions, small enough to be kept."""
    dataset = ImageDataset(find(name), root, Stretch(size=224), ["captioning"], training=False)
    return [dataset[i] for i in range(len(dataset))]


def report(name: str, net: nn.Module, seconds: float, steps: int, scores: dict[str, float]) -> None:
    """One JSON line, behind which nothing comes."""
    size = sum(parameter.numel() for parameter in net.parameters()) / 1e6
    figures = {"rival": name, "million_parameters": size, "cpu_seconds": seconds, "steps": steps, **scores}
    print(json.dumps({key: round(value, 2) if isinstance(value, float) else value for key, value in figures.items()}))
