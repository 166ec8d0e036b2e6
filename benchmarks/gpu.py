"""Everything on a GPU, in one table and under eight minutes: pictures, captions and training steps, and what holds them up.

python benchmarks/gpu.py [--device cuda] [--side 512 1024] [--tiny]

Seeded Focal-T weights. *published* computes all layers' logits and masks at full size. *waits* is how often the processor waits
for the GPU (`torch.cuda.set_sync_debug_mode`), *kernels* how many are launched, *peak share* what share of the speed of a large
product, as it is measured here, the work's products and convolutions reach.

Nothing has run on a GPU yet. On a processor `--tiny` tries the script; on a busy one it was never waited for to its end.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import measure
import panoptic_1024
import torch
import training_step
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from trainer.optim import build_optimizer
from xdecoder.decoder.generation import GenerationConfig, generate
from xdecoder.model import XDecoder, XDecoderConfig
from xdecoder.tasks import TasksConfig
from xdecoder.types import to_device

FORMATS = {"float32": (torch.float32, "ieee"), "TF32": (torch.float32, "tf32"), "bf16": (torch.bfloat16, "ieee")}
WORDS = 50


class Device:
    """A GPU, or the processor in its place."""

    def __init__(self, name: str) -> None:
        self.device = torch.device(name)
        self.is_gpu = self.device.type == "cuda"

    @contextmanager
    def computing(self, precision: str) -> Iterator[None]:
        """Whether float32 products may be TF32's."""
        if not self.is_gpu:
            yield
            return
        before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        try:
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before

    def seconds(self, work: Callable[[], Any], repeats: int) -> float:
        """Median wall time until the GPU is done, behind two runs that are not counted."""
        times = []
        for _ in range(repeats + 2):
            start = time.perf_counter()
            work()
            if self.is_gpu:
                torch.cuda.synchronize(self.device)
            times.append(time.perf_counter() - start)
        return sorted(times[2:])[repeats // 2]

    def waits(self, work: Callable[[], Any]) -> int | str:
        if not self.is_gpu:
            return "-"
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return sum("synchroniz" in str(each.message) for each in caught)

    def kernels(self, work: Callable[[], Any]) -> int | str:
        if not self.is_gpu:
            return "-"
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            work()
            torch.cuda.synchronize(self.device)
        return sum(event.count for event in seen.key_averages() if not event.key.startswith(("Memcpy", "Memset")))

    def row(self, work: Callable[[], Any], repeats: int, peak: float | None = None) -> dict[str, Any]:
        """Figures of some work; `peak`: operations a second that the card reaches."""
        if self.is_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        with FlopCounterMode(display=False) as counter:
            work()
        seconds = self.seconds(work, repeats)
        found = {"ms": seconds * 1e3, "waits": self.waits(work), "kernels": self.kernels(work)}
        if self.is_gpu:
            found["peak GiB"] = torch.cuda.max_memory_allocated(self.device) / 2**30
        return found | ({"peak share": counter.get_total_flops() / seconds / peak} if peak else {})

    def peak(self, dtype: torch.dtype, side: int) -> float:
        """Operations a second of a large product."""
        x = torch.randn(side, side, device=self.device, dtype=dtype)
        return 2 * side**3 / self.seconds(lambda: x @ x, 5)


def network(tiny: bool, published: bool = False) -> XDecoder:
    if not tiny:
        return measure.focal_t(published)
    backbone = {"name": "focal", "width": 16, "depths": (1, 1, 1, 1)}
    return (
        XDecoder(XDecoderConfig.model_validate({"backbone": backbone, "published_quirks": published}))
        .eval()
        .requires_grad_(False)
    )


@torch.inference_mode()
def asking(on: Device, options: Any) -> measure.Figures:
    """Panoptic maps and captions."""
    figures: measure.Figures = {}
    for name, (dtype, precision) in FORMATS.items():
        model = network(options.tiny).to(on.device)
        model.for_inference(dtype)
        with on.computing(precision):
            peak = on.peak(dtype, 256 if options.tiny else 8192)
            for side in options.side:
                image = measure.image(side, side)
                work = lambda image=image, model=model: panoptic_1024.ours(model, image, False).cpu()  # noqa: E731
                figures[f"panoptic {side}, {name}"] = on.row(work, options.repeats, peak)
            features = model.encode([measure.image(224, 224)])
            write = lambda features=features, model=model: generate(model, features, GenerationConfig(max_length=WORDS))  # noqa: E731
            figures[f"caption, {name}"] = on.row(write, options.repeats)
    published = network(options.tiny, published=True).to(on.device)
    for side in options.side:
        image = measure.image(side, side)
        work = lambda image=image: panoptic_1024.as_published(published, image, False).cpu()  # noqa: E731
        figures[f"panoptic {side}, published float32"] = on.row(work, options.repeats)
    return figures


def learning(on: Device, options: Any) -> measure.Figures:
    """A training step on one picture of 512 pixels, and on one whose picture is compiled."""
    figures: measure.Figures = {}
    batch = to_device(training_step.batches()[0], on.device)
    tasks = TasksConfig().build(["segmentation", "referring"])
    for name in ("float32", "bf16", "bf16, compiled"):
        model = network(options.tiny).to(on.device).train().requires_grad_(True)
        if "compiled" in name:
            if not on.is_gpu:
                continue
            model.compile_encoder()
        optimizer = build_optimizer(model, 1e-4, 0.05, model.lr_multipliers)

        def step(model: XDecoder = model, optimizer: torch.optim.Optimizer = optimizer, half: bool = "bf16" in name) -> None:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(on.device.type, dtype=torch.bfloat16, enabled=half):
                terms = model.losses(tasks, batch)
            torch.stack([term.float() for term in terms.values()]).sum().backward()
            optimizer.step()

        figures[f"training step, {name}"] = on.row(step, options.repeats)
    return figures


def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("--device", default="cuda", help="default: cuda")
    parser.add_argument("--side", type=int, nargs="+", default=[512, 1024], help="of the pictures, in pixels")
    parser.add_argument("--tiny", action="store_true", help="a narrow backbone, to try this script")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("there is no GPU; --device cpu --tiny tries the script")
        return
    on = Device(options.device)
    name = torch.cuda.get_device_name(on.device) if on.is_gpu else "processor"
    measure.report(asking(on, options) | learning(on, options), device=name)


if __name__ == "__main__":
    main()
