"""One training step of the published recipe on a processor: how long, how much memory, and where both go.

python benchmarks/training_step.py [configs/xdecoder/focal_t.yaml] [key.sub=value ...] [--steps 3] [--threads 2]

The step learns from one 512 x 512 picture with 12 regions, 3 phrases and a caption, and from two 224 x 224 pictures with one
caption each. Prints a table and a JSON line. The published code took 26 s and 13.9 GiB for it, on two threads of another
machine, and 27 to 34 s on one where ours took 9.1 s (AMD Zen 5). trainer.precision=bf16 and trainer.checkpoint_activations=true
show what these settings give.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the rooms beside this one are not installed

from trainer.engine import recompute_activations
from trainer.experiment import ExperimentConfig
from trainer.optim import build_optimizer
from trainer.precision import resolve
from trainer.trainer import Learner, Stream
from xdecoder.config import load
from xdecoder.model import XDecoder
from xdecoder.tasks import referring, segmentation
from xdecoder.types import Batch, Phrases, Sample, Segments, Vocabulary

PUBLISHED = {"seconds": 26.0, "gib": 13.9}
KINDS = ("red", "small", "wooden", "old", "flying", "round", "dining", "paper", "wild", "stone", "toy")
THINGS = ("bird", "table", "car", "dog", "boat", "tree", "house", "chair", "horse", "bottle", "road", "wall")
CLASSES = (*THINGS, *(f"{kind} {thing}" for thing in THINGS for kind in KINDS))[:133]


class Ledger:
    """Seconds and peak memory of named stages; a stage within another one counts for itself only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.peak: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self.clear()

    def clear(self) -> None:
        self.seconds.clear()
        self.peak.clear()
        peak_memory()
        self._since = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._decode_group()
        self._open.append(name)
        try:
            yield
        finally:
            self._decode_group()
            self._open.pop()

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Have every call of `owner.method` counted as a stage."""
        plain: Callable[..., Any] = getattr(owner, method)

        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name):
                return plain(*args, **kwargs)

        setattr(owner, method, counted)

    def _decode_group(self) -> None:
        """Book what has passed since the last change to the innermost open stage."""
        now, peak = time.perf_counter(), peak_memory()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
            self.peak[self._open[-1]] = max(self.peak[self._open[-1]], peak)
        self._since = now


def peak_memory() -> float:
    """The largest resident size of this process since the last call, in GiB (Linux)."""
    held = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    Path("/proc/self/clear_refs").write_text("5")
    return int(held[1]) / 2**20 if held else float("nan")


def batches() -> list[Batch]:
    """What one step learns from: a batch of segmentation and referring, and one of captioning and retrieval."""
    generator = torch.Generator().manual_seed(0)

    def image(size: int) -> torch.Tensor:
        return torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=generator)

    masks = torch.zeros(12, 512, 512, dtype=torch.bool)
    for i, mask in enumerate(masks):
        mask[128 * (i // 3) : 128 * (i // 3) + 110, 170 * (i % 3) : 170 * (i % 3) + 150] = True
    caption = "a red bird on a small table beside an old car"
    annotated = Sample(
        "picture",
        image(512),
        (512, 512),
        Segments(masks, torch.arange(12) * 11, torch.zeros(12, dtype=torch.bool)),
        Phrases(("the bird on the left", "a small wooden table", "old car behind the dog"), masks[:3]),
        (caption,),
        (("bird", "table", "car"),),
    )
    pairs = [Sample(f"pair {i}", image(224), (224, 224), captions=(f"{caption} and {THINGS[i]}",)) for i in (3, 4)]
    vocabulary = Vocabulary(CLASSES, tuple(i < 80 for i in range(133)))
    return [Batch((annotated,), vocabulary, "picture"), Batch(tuple(pairs), None, "pairs")]


def watch(model: XDecoder, ledger: Ledger) -> None:
    ledger.watch(model.backbone, "forward", "backbone")
    ledger.watch(model.pixel_decoder, "forward", "pixel decoder")
    ledger.watch(model.language, "encode_ids", "text encoder")
    ledger.watch(model, "decode", "decoder")
    for task in (segmentation, referring):
        ledger.watch(task, "match", "matching")
        ledger.watch(task, "mask_losses", "mask losses")


def measure(config: ExperimentConfig, steps: int) -> list[dict[str, Any]]:
    """Seconds and peak GiB of each stage in each step, the first of which also makes the optimiser's state."""
    torch.manual_seed(0)
    model = XDecoder(config.model).train()
    multipliers = model.lr_multipliers if config.trainer.lr_multipliers is None else config.trainer.lr_multipliers
    optimizer = build_optimizer(model, config.trainer.learning_rate, config.trainer.weight_decay, multipliers)
    precision = resolve(config.trainer.precision, torch.device("cpu"))
    tasks = (("segmentation", "referring"), ("captioning", "retrieval"))
    learner = Learner(model, [Stream(config.tasks.build(names), iter) for names in tasks])  # type: ignore[arg-type]
    if config.trainer.checkpoint_activations:
        recompute_activations(learner)
    parameters = list(model.parameters())
    ledger, given, measured = Ledger(), batches(), []
    watch(model, ledger)
    for _ in range(steps):
        ledger.clear()
        with ledger.stage("other losses"):
            optimizer.zero_grad(set_to_none=True)
            with precision.autocast():
                terms = learner(given, [None] * len(given))
            loss = torch.stack([value.float() for value in terms.values()]).sum()
        with ledger.stage("backward"):
            loss.backward()
        with ledger.stage("optimizer"):
            torch.nn.utils.clip_grad_norm_(parameters, config.trainer.clip_norm or float("inf"))
            optimizer.step()
        measured.append({"loss": loss.item(), "seconds": dict(ledger.seconds), "gib": dict(ledger.peak)})
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default=str(ROOT / "configs/xdecoder/focal_t.yaml"))
    parser.add_argument("settings", nargs="*", metavar="key.sub=value")
    parser.add_argument("--steps", type=int, default=4, help="how many steps; the first is left out of the time")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_intermixed_args()
    torch.set_num_threads(options.threads)
    steps = measure(load(ExperimentConfig, options.config, options.settings), options.steps)
    counted = sorted(steps[1:] or steps, key=lambda step: sum(step["seconds"].values()))
    shown = counted[(len(counted) - 1) // 2]
    seconds, peak = sum(shown["seconds"].values()), max(max(step["gib"].values()) for step in steps)
    print(f"{'stage':16} {'seconds':>8} {'share':>6} {'peak GiB':>9}")
    for name, took in shown["seconds"].items():
        print(f"{name:16} {took:8.2f} {took / seconds:6.0%} {shown['gib'][name]:9.2f}")
    print(f"{'step':16} {seconds:8.2f} {1:6.0%} {peak:9.2f}")
    print(f"{'published code':16} {PUBLISHED['seconds']:8.2f} {'':6} {PUBLISHED['gib']:9.2f}   (on another machine)")
    print(
        json.dumps(
            {
                "seconds": seconds,
                "gib": peak,
                "threads": options.threads,
                "losses": [step["loss"] for step in steps],
                "stages": {name: {"seconds": took, "gib": shown["gib"][name]} for name, took in shown["seconds"].items()},
            }
        )
    )


if __name__ == "__main__":
    main()
