"""What digests cost: writing and reading a training state of Focal-T, by turns with and without.

python benchmarks/states.py [--repeats 3] [--folder FOLDER]

Without is what torch does by itself, written as atomically. With is, in writing, what the training waits for; the rest, reading
the state back among it, is done beside the training and is a figure of its own. Processor time counts all threads; where others
use the machine it tells more than the clock does.
"""

from __future__ import annotations

import itertools
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor

from trainer import checkpointing
from trainer.distributed import ALONE
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


def write_shards_alone(tensors: dict[str, Tensor], path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    dcp.save(dict(tensors), storage_writer=dcp.HuggingFaceStorageWriter(str(path), save_distributed=True))


def tensors_of(state: dict[str, Any]) -> dict[str, Tensor]:
    """As the sharded engine names them."""
    moments = {f"optimizer.{key}.{n}": x for n, each in state["optimizer"]["state"].items() for key, x in each.items()}
    return {f"model.{name}": x for name, x in state["model"].items()} | moments


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds by the clock, those of the processor, and the result."""
    clock, processor = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - clock, time.process_time() - processor, result


def by_turns(
    alone: Callable[[], Any], ours: Callable[[], Any], repeats: int, beside: Callable[[Any], Any] | None = None
) -> dict[str, float]:
    """Medians of both and their ratios, after one round that does not count.

    Args:
        beside: what is left to do with `ours`' result while others go on.
    """
    rounds = []
    for _ in range(repeats + 1):
        without = timed(alone)[:2]
        *found, result = timed(ours)
        rest = timed(lambda left=result: beside(left))[:2] if beside else (0.0, 0.0)  # type: ignore[misc]
        rounds.append((*without, *found, *rest))
        del result
    clock, processor, our_clock, our_processor, *rest = map(statistics.median, zip(*rounds[1:], strict=True))
    figures = {"without s": clock, "with s": our_clock, "ratio": our_clock / clock, "without CPU s": processor}
    figures["processor's ratio"] = our_processor / processor
    return figures | (dict(zip(("beside s", "beside CPU s"), rest, strict=True)) if beside else {})


def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary one)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")
    state = training_state()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        alone, ours = folder / "alone.pt", folder / "step_00000001.pt"
        figures = {
            "writing": by_turns(
                lambda: write_alone(state, alone),
                lambda: checkpointing.save(state, folder, 1, keep_last=1),
                options.repeats,
                beside=finish,
            ),
            "reading": by_turns(
                lambda: torch.load(alone, map_location="cpu", weights_only=True),
                lambda: checkpoint.read(ours),
                options.repeats,
            ),
        }
        size, tensors = ours.stat().st_size, tensors_of(state)
        plain = {key: value for key, value in state.items() if key not in checkpointing.WHOLE}
        numbers = itertools.count(2)
        figures["writing shards"] = by_turns(
            lambda: write_shards_alone(tensors, folder / "alone"),
            lambda: checkpointing.save_shards(tensors, plain, folder, next(numbers), 1, ALONE),
            options.repeats,
            beside=finish,
        )
        measure.report(figures, bytes=size)


def finish(rest: checkpointing.Rest) -> None:
    rest()


if __name__ == "__main__":
    main()
