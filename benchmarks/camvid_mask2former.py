"""CamVid from scratch: transformers' Mask2Former of our size, trained for as many seconds on the same batches.

python benchmarks/camvid_mask2former.py data.root=FOLDER_ABOVE_camvid --seconds 900 [--run runs/camvid]

Prints both sizes and scores as a table and as one JSON line. Ours is what `train.py` and `eval.py` left in the run folder.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the rooms beside this one are not installed

from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from datasets.evaluators.semantic import SemanticEvaluator
from datasets.loader import evaluation_loader, train_loader
from trainer.evaluation.results import read
from trainer.experiment import ExperimentConfig
from xdecoder import checkpoint
from xdecoder.config import load
from xdecoder.model import XDecoder
from xdecoder.postprocessing import resize_masks, semantic_map
from xdecoder.types import Batch, SegmentationResult

WARMUP = 50  # steps


def build(config: ExperimentConfig, classes: int) -> nn.Module:
    """Mask2Former on a Swin of the same depths, with the widths of our pixel decoder and decoder."""
    ours = config.model
    width, heads = ours.decoder.width, ours.decoder.heads
    swin = SwinConfig(
        embed_dim=ours.backbone.width,
        depths=list(ours.backbone.depths),
        num_heads=[2, 4, 8, 16],
        window_size=7,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        drop_path_rate=0.0,
    )
    points = config.tasks.segmentation.points
    return Mask2FormerForUniversalSegmentation(
        Mask2FormerConfig(
            backbone_config=swin,
            feature_size=width,
            mask_feature_size=width,
            hidden_dim=width,
            num_labels=classes,
            encoder_feedforward_dim=ours.pixel_decoder.hidden,
            encoder_layers=ours.pixel_decoder.layers,
            decoder_layers=ours.decoder.layers + 1,
            num_attention_heads=heads,
            dim_feedforward=ours.decoder.hidden,
            num_queries=ours.decoder.queries,
            train_num_points=points,
            dropout=0.0,
        )
    )


def learn(net: nn.Module, config: ExperimentConfig, seconds: float) -> int:
    """Train with our optimiser settings and a cosine over time; returns the number of steps."""
    optimizer = torch.optim.AdamW(net.parameters(), config.trainer.learning_rate, weight_decay=config.trainer.weight_decay)
    root = config.data.root
    batches = train_loader(config.data.train[0], root, seed=config.seed, rank=0, world_size=1, workers=0)
    start, steps = time.monotonic(), 0
    net.train()
    while (passed := (time.monotonic() - start) / seconds) < 1:
        rate = config.trainer.learning_rate * min((steps + 1) / WARMUP, 1) * 0.5 * (1 + math.cos(passed * math.pi))
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = next(batches)
        segments = [sample.segments for sample in batch.samples if sample.segments is not None]
        loss = net(
            pixel_values=pixels(batch),
            mask_labels=[s.masks.float() for s in segments],
            class_labels=[s.labels for s in segments],
        ).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), config.trainer.clip_norm or float("inf"))
        optimizer.step()
        steps += 1
        if steps % 50 == 0:
            print(f"step {steps}  loss {loss.item():.2f}  {passed:.0%}", flush=True)
    return steps


@torch.inference_mode()
def measure(net: nn.Module, config: ExperimentConfig) -> float:
    """mIoU on the first evaluation set, read out as ours is."""
    loader = evaluation_loader(config.data.evaluate[0], config.data.root)
    assert loader.dataset.vocabulary is not None
    evaluator = SemanticEvaluator(loader.dataset.vocabulary)
    net.eval()
    for batch in loader:
        shown = pixels(batch)
        answer = net(pixel_values=shown)
        probabilities = answer.class_queries_logits.softmax(-1)
        for sample, rows, masks in zip(batch.samples, probabilities, answer.masks_queries_logits, strict=True):
            size = (sample.image.shape[-2], sample.image.shape[-1])
            resized = resize_masks(masks, (shown.shape[-2], shown.shape[-1]), size, sample.output_size)
            evaluator.update(SegmentationResult(semantic_map(rows, resized), None, None), sample)
    return evaluator.compute()["mIoU"]


def pixels(batch: Batch) -> Tensor:
    """Normalised and padded as for ours."""
    return XDecoder.prepare(batch.images, torch.device("cpu"))


def size_of(net: nn.Module) -> float:
    return sum(p.numel() for p in net.parameters()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="key.sub=value")
    parser.add_argument("--config", default=str(ROOT / "configs/camvid/focal_small.yaml"))
    parser.add_argument("--run", type=Path, default=Path("runs/camvid"), help="our finished and measured run")
    parser.add_argument("--seconds", type=float, help="training time (default: as long as ours took)")
    options = parser.parse_intermixed_args()
    config = load(ExperimentConfig, options.config, options.settings)
    ours, results = checkpoint.load(options.run / "model.pt"), read(options.run)
    seconds = options.seconds or results["seconds/train"]
    assert seconds is not None
    torch.manual_seed(config.seed)
    net = build(config, classes=11)
    steps = learn(net, config, seconds)
    figures = {
        "ours": {
            "million_parameters": size_of(ours) - size_of(ours.language),
            "seconds": results["seconds/train"],
            "mIoU": results["camvid_test/mIoU"],
        },
        "mask2former": {"million_parameters": size_of(net), "seconds": seconds, "steps": steps, "mIoU": measure(net, config)},
    }
    print(f"{'':12} {'M parameters':>12} {'seconds':>8} {'mIoU':>6}")
    for name, row in figures.items():
        print(f"{name:12} {row['million_parameters']:12.2f} {row['seconds']:8.0f} {row['mIoU']:6.2f}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
