"""What digests cost: writing and reading a training state of Focal-T, by turns with and without.

python benchmarks/states.py [--repeats 3] [--folder FOLDER]

Without is what torch does by itself, written as atomically. Processor time counts all threads; where others use the machine it
tells more than the clock does.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import torch

from trainer import checkpointing
from trainer.optim import MultiStep, build_optimizer, build_schedule
from xdecoder import checkpoint
from xdecoder.files import atomic


def training_state() -> dict[str, Any]:
    """What a run of the published Focal-T saves: weights and two moments of each."""
    model = measure.focal_t().requires_grad_(True)
    optimizer = build_optimizer(model, 1e-4, 0.05, model.lr_multipliers)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer.step()
    schedule = build_schedule(optimizer, MultiStep(), 10, 1)
    state = dict.fromkeys(checkpointing.KEYS) | {"step": 1, "schedule": schedule.state_dict()}
    return {**state, "model": model.state_dict(), "optimizer": optimizer.state_dict()}


def write_alone(state: dict[str, Any], path: Path) -> None:
    with atomic(path) as file:
        torch.save(state, file)


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by the clock, and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    result = work()
    found = time.perf_counter() - clock, time.process_time() - processor
    del result
    return found


def by_turns(alone: Callable[[], Any], ours: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Medians of both and their ratios, after one round that does not count."""
    rounds = [(timed(alone), timed(ours)) for _ in range(repeats + 1)][1:]
    clock = [[each[way][0] for each in rounds] for way in (0, 1)]
    processor = [[each[way][1] for each in rounds] for way in (0, 1)]
    without, with_digests = map(statistics.median, clock)
    return {
        "without s": without,
        "with s": with_digests,
        "ratio": with_digests / without,
        "without CPU s": statistics.median(processor[0]),
        "processor's ratio": statistics.median(processor[1]) / statistics.median(processor[0]),
    }


def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary one)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    state = training_state()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        alone, ours = folder / "alone.pt", folder / "step_00000001.pt"
        writing = by_turns(
            lambda: write_alone(state, alone), lambda: checkpointing.save(state, folder, 1, keep_last=1), options.repeats
        )
        reading = by_turns(
            lambda: torch.load(alone, map_location="cpu", weights_only=True), lambda: checkpoint.read(ours), options.repeats
        )
        measure.report({"writing": writing, "reading": reading}, bytes=ours.stat().st_size)


if __name__ == "__main__":
    main()
