"""What a run tells: a progress display, log.jsonl, TensorBoard and, if asked for, Weights & Biases."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from trainer.wandb import WandbConfig, WeightsAndBiases
from xdecoder.files import atomic

SECONDS_BETWEEN_LINES = 10.0


class RunLog:
    """log.jsonl and the TensorBoard files of a run folder.

    Args:
        folder: the run folder.
        step: where the run goes on; what was logged of later steps is dropped, as they will happen again.
        wandb: also tell Weights & Biases.

    Raises:
        ConfigError: if Weights & Biases is asked for and not there.
    """

    def __init__(self, folder: Path, step: int = 0, wandb: WandbConfig | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "log.jsonl"
        self._drop_after(step)
        self._wandb = WeightsAndBiases(wandb, folder) if wandb else None
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, step: int, entry: Mapping[str, Any]) -> None:
        """Add one line for the step, and each of its numbers to the boards. Raises OSError naming the file."""
        self._append(self.path, {"step": step, **entry})
        self._draw(step, _flat(entry))

    def write_results(self, step: int, results: Mapping[str, float]) -> None:
        """Add what an evaluation during training gave to evaluations.jsonl and the boards."""
        self._append(self.path.with_name("evaluations.jsonl"), {"step": step, "results": dict(results)})
        self._draw(step, _flat({"results": results}))
        self._board.flush()

    def _draw(self, step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._board.add_scalar(name, value, step)
        if self._wandb:
            self._wandb.write(step, scalars)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._board.close()
        if self._wandb:
            self._wandb.close(failed=error is not None)

    @staticmethod
    def _append(path: Path, entry: Mapping[str, Any]) -> None:
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise OSError(error.errno, f"{path} could not be written ({error.strerror})") from error

    def _drop_after(self, step: int) -> None:
        if not self.path.exists():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("}\n") and json.loads(line)["step"] <= step]
        if kept != lines:
            with atomic(self.path, "w") as file:
                file.write("".join(kept))


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
