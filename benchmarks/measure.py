"""What the benchmarks share: a seeded network, a picture, a clock, a table and a line of JSON."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the rooms beside this one are not installed

import torch
from torch import Tensor

from trainer.meter import process_peak
from xdecoder.model import XDecoder, XDecoderConfig
from xdecoder.ops import linear

Figures = dict[str, dict[str, Any]]


def parser(description: str | None) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    options.add_argument("--repeats", type=int, default=3, help="measurements, of which the median counts (default: 3)")
    return options


def focal_t(published: bool = False) -> XDecoder:
    """The published Focal-T's architecture with seeded weights; what it computes takes as long as with any others.

    published: make attention masks at full size, and repeat the other known defects.
    """
    torch.manual_seed(0)
    return XDecoder(XDecoderConfig(published_quirks=published)).eval().requires_grad_(False)


@contextmanager
def plain_products() -> Iterator[None]:
    """Products as torch makes them, which what stands in for published code is measured with."""
    with patch.object(linear, "FEW", -1), patch.object(linear, "convolutions_are_faster", lambda: False):
        yield


def image(height: int, width: int) -> Tensor:
    """Smooth random colours, (3, height, width) uint8."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, max(height // 32, 2), max(width // 32, 2), generator=generator)
    fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    return (fine[0] * 255).to(torch.uint8)


def seconds(work: Callable[[], Any], repeats: int, warm: bool = False) -> float:
    """Median time, as `clock` counts it, after an unmeasured run unless the work has run before (`warm`)."""
    if not warm:
        work()
    return statistics.median(_once(work) for _ in range(repeats))


def clock() -> float:
    """Seconds; with one thread those that this process computed, whoever else uses the machine."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def _once(work: Callable[[], Any]) -> float:
    start = clock()
    work()
    return clock() - start


def alone(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What the work returns in a process of its own, and the most memory (GiB) that this process ever held."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_with_peak, (work, arguments))


def _with_peak(work: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float]:
    return work(*arguments), peak()


def peak() -> float:
    """The most memory (GiB) that this process has held so far."""
    return process_peak()


def report(figures: Figures, **more: Any) -> None:
    """Print rows of figures as a table, then everything as one line of JSON."""
    columns = list(dict.fromkeys(name for row in figures.values() for name in row))
    first = max(map(len, figures))
    print(" " * first, *(f"{name:>{max(len(name), 10)}}" for name in columns), sep="  ")
    for name, row in figures.items():
        print(f"{name:{first}}", *(f"{_shown(row, column):>{max(len(column), 10)}}" for column in columns), sep="  ")
    print(json.dumps({**figures, **more, "threads": torch.get_num_threads(), "torch": torch.__version__}))


def _shown(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column, "")
    return f"{value:.4g}" if isinstance(value, float) else str(value)
