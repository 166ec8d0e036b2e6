"""What a run tells: a progress display, log.jsonl, TensorBoard and, if asked for, Weights & Biases and MLflow."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from trainer.mlflow import Mlflow, MlflowConfig
from trainer.wandb import WandbConfig, WeightsAndBiases
from xdecoder.files import atomic

SECONDS_BETWEEN_LINES = 10.0
EVALUATIONS = "evaluations.jsonl"
logger = logging.getLogger(__name__)


class RunLog:
    """log.jsonl and the TensorBoard files of a run folder.

    Args:
        folder: the run folder.
        step: where the run goes on; what was logged of later steps is dropped, as they will happen again. A log with damaged
            lines is kept beside the one that goes on without them.
        wandb: also tell Weights & Biases.
        mlflow: also tell MLflow.

    Raises:
        ConfigError: if one of these is asked for and not there.
    """

    def __init__(
        self, folder: Path, step: int = 0, wandb: WandbConfig | None = None, mlflow: MlflowConfig | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "log.jsonl"
        for path in (self.path, folder / EVALUATIONS):
            _drop_after(path, step)
        self._services: list[WeightsAndBiases | Mlflow] = [WeightsAndBiases(wandb, folder)] if wandb else []
        self._services += [Mlflow(mlflow, folder)] if mlflow else []
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, step: int, entry: Mapping[str, Any]) -> None:
        """Add one line for the step, and each of its numbers to the boards. Raises OSError naming the file."""
        self._append(self.path, {"step": step, **entry})
        self._draw(step, _flat(entry))

    def write_results(self, step: int, results: Mapping[str, float]) -> None:
        """Add what an evaluation during training gave to evaluations.jsonl and the boards."""
        self._append(self.path.with_name(EVALUATIONS), {"step": step, "results": dict(results)})
        self._draw(step, _flat({"results": results}))
        self._board.flush()

    def _draw(self, step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._board.add_scalar(name, value, step)
        for service in self._services:
            service.write(step, scalars)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._board.close()
        for service in self._services:
            service.close(failed=error is not None)

    @staticmethod
    def _append(path: Path, entry: Mapping[str, Any]) -> None:
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise OSError(error.errno, f"{path} could not be written ({error.strerror})") from error


def _drop_after(path: Path, step: int) -> None:
    """Keep the lines of a log up to a step. A half one at the end is what a kill leaves; any other fault is told and kept."""
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    steps = [_step_of(line) for line in lines]
    if None in steps[:-1] or (lines and steps[-1] is None and lines[-1].endswith(b"\n")):
        aside = next(free for n in range(1, 10**6) if not (free := path.with_name(f"{path.name}.damaged{n}")).exists())
        shutil.copyfile(path, aside)
        logger.warning("%s: %d damaged lines are left out; the file as it was is %s", path, steps.count(None), aside)
    kept = [line for line, at in zip(lines, steps, strict=True) if at is not None and at <= step]
    if kept != lines:
        with atomic(path) as file:
            file.write(b"".join(kept))


def _step_of(line: bytes) -> int | None:
    """The step that a line of a log is about; None for one that is damaged."""
    try:
        entry = json.loads(line) if line.endswith(b"}\n") else None
    except (ValueError, RecursionError):
        return None
    step = entry.get("step") if isinstance(entry, dict) else None
    return step if isinstance(step, int) else None


def _flat(entry: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    scalars: dict[str, float] = {}
    for name, value in entry.items():
        scalars |= _flat(value, f"{prefix}{name}/") if isinstance(value, Mapping) else {prefix + name: value}
    return scalars


class Progress:
    """How far a loop is: a bar on a terminal, elsewhere a line now and then.

    Args:
        total: number of rounds.
        done: rounds that were finished before.
        label: what is going on.
        show: False keeps quiet (all processes but the main one).
    """

    def __init__(self, total: int, label: str, done: int = 0, show: bool = True) -> None:
        self.total, self.done, self.label, self.show = total, done, label, show
        self._first, self._start, self._last = done, time.monotonic(), time.monotonic()
        on_terminal = show and sys.stderr.isatty()
        self._bar = tqdm(total=total, initial=done, desc=label, dynamic_ncols=True) if on_terminal else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, rounds: int = 1) -> None:
        self.done += rounds
        if self._bar is not None:
            self._bar.update(rounds)
        elif self.show and self.done >= self.total > self._first:
            self._say("")

    def tell(self, text: str) -> None:
        """Show the latest figures, on the bar or (not too often) as a line."""
        if self._bar is not None:
            self._bar.set_postfix_str(text)
        elif self.show and time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._say(text)

    def _say(self, text: str) -> None:
        self._last = time.monotonic()
        took = self._last - self._start
        left = took / max(self.done - self._first, 1) * (self.total - self.done)
        clock = f"{_clock(left)} left" if self.done < self.total else f"done in {_clock(took)}"
        print("  ".join(filter(None, (f"{self.label} {self.done}/{self.total}", text, clock))), file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
