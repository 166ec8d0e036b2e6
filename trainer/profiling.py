"""A trace of some training steps: what the processor and the GPU did, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from xdecoder.files import atomic

SKIPPED = 2  # steps before the trace: they allocate what later ones reuse


@contextmanager
def traced_steps(path: Path, steps: int) -> Iterator[Callable[[], None]]:
    """Trace `steps` steps within the block, which calls what it is given after each; none if `steps` is 0.

    Writes `path` as Chrome's JSON (open it in chrome://tracing or ui.perfetto.dev) and beside it a table of the costliest
    operations as text, as soon as the steps are done or the block ends.
    """
    if steps == 0:
        yield lambda: None
        return

    def write(profiler: profile) -> None:
        table = profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=40, max_name_column_width=60)
        with atomic(path.with_suffix(".txt"), "w") as file:
            file.write(table)
        with atomic(path) as file:
            profiler.export_chrome_trace(file.name)

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    plan = schedule(wait=SKIPPED - 1, warmup=1, active=steps, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=write, record_shapes=True) as profiler:
        yield profiler.step
