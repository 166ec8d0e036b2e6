"""The training loop."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainer import checkpointing, distributed
from trainer.distributed import ALONE, World
from trainer.interrupt import stop_on_signals
from trainer.logging import Progress, RunLog
from trainer.meter import Meter, summary
from trainer.optim import MultiStep, Schedule, build_optimizer, build_schedule
from trainer.precision import PrecisionName, resolve
from xdecoder import checkpoint
from xdecoder.config import Config
from xdecoder.tasks import Task, losses
from xdecoder.types import Batch, to_device


class TrainerConfig(Config):
    """How to train; rates, decay, clipping and schedule default to the published recipe."""

    steps: int = Field(gt=0)
    """Optimiser steps."""
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    lr_multipliers: Mapping[str, float] = Field({"backbone": 0.1, "language": 0.1})
    """Factor of the learning rate for all below a module; the longest matching name counts. What is given replaces both."""
    schedule: Schedule = MultiStep()
    warmup_steps: int = Field(10, ge=0)
    """Steps over which the learning rate rises to its full value."""
    clip_norm: float | None = Field(5.0, gt=0)
    """Largest L2 norm of the whole gradient; null: no limit."""
    accumulation: int = Field(1, gt=0)
    """Batches of each stream whose mean gradient makes one step."""
    precision: PrecisionName = "auto"
    """auto: bf16 on a GPU that has it, else float32."""
    log_every: int = Field(20, gt=0)
    """Steps between two lines of log.jsonl; they hold the means since the line before."""
    save_every: int = Field(1000, gt=0)
    """Steps between two saved training states."""
    keep_last: int = Field(2, gt=0)
    """Training states that are kept."""
    evaluate_every: int | None = Field(None, gt=0)
    """Steps between two evaluations during training; null: none."""
    compile: bool = False
    """Compile the backbone and the pixel decoder."""
    channels_last: bool = False
    """Lay convolutions out with channels last, which suits recent GPUs."""
    device: Literal["auto", "cpu", "cuda"] = "auto"


@dataclass(frozen=True)
class Stream:
    """Batches of one kind, and what is learnt from them."""

    tasks: Sequence[Task]
    open: Callable[[int], Iterator[Batch]]    # endless batches, from the n-th on
    weight: float = 1.0                       # of its losses


class Learner(nn.Module):
    """The model with its losses, as one forward over a batch of each stream: what data parallelism wraps."""

    def __init__(self, model: nn.Module, streams: Sequence[Stream]) -> None:
        super().__init__()
        self.model = model
        self._streams = streams

    def forward(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Weighted terms; their sum is the loss. Streams that share a task add to the same terms."""
        terms: dict[str, Tensor] = {}
        for stream, batch in zip(self._streams, batches, strict=True):
            for name, value in losses(self.model, stream.tasks, batch).items():  # type: ignore[arg-type]
                value = stream.weight * value
                terms[name] = terms[name] + value if name in terms else value
        return terms


class Trainer:
    """Trains a model on a mix of streams.

    Args:
        config: how to train.
        model: the network, on the processor; it is moved to `device`.
        streams: every step draws one batch of each.
        device: where to compute.
        run_folder: gets log.jsonl, tensorboard/ and checkpoints/, and is where training goes on from if it holds a state.
        world: this process's place among those that train together.
        evaluate: gives results by name in the middle of training, for `config.evaluate_every`.
    """

    def __init__(
        self,
        config: TrainerConfig,
        model: nn.Module,
        streams: Sequence[Stream],
        device: torch.device,
        run_folder: Path,
        world: World = ALONE,
        evaluate: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        self.config, self.streams, self.device, self.world = config, streams, device, world
        self.run_folder, self.evaluate = Path(run_folder), evaluate
        layout = torch.channels_last if config.channels_last else torch.preserve_format
        self.model = model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        self.precision = resolve(config.precision, device)
        self.scaler = self.precision.scaler()
        self.optimizer = build_optimizer(model, config.learning_rate, config.weight_decay, config.lr_multipliers)
        self.schedule = build_schedule(self.optimizer, config.schedule, config.steps, config.warmup_steps)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.step = 0              # finished optimiser steps
        self.consumed = 0          # batches drawn of each stream
        self.seconds = 0.0         # spent on training, over all resumes
        self._meter = Meter(device, watch_gradient=not self.scaler.is_enabled())
        self._resume()
        self.learner = self._wrap(Learner(model, streams))

    @property
    def checkpoints(self) -> Path:
        return self.run_folder / "checkpoints"

    def train(self) -> bool:
        """Train to the last step; False if a signal asked to stop before, in which case the state is saved.

        Raises:
            NonFiniteError: naming the step and the pictures.
            OSError: if a state or the log cannot be written.
        """
        if self.step >= self.config.steps:
            return True
        log = RunLog(self.run_folder, self.step) if self.world.is_main else None
        before, start = self.seconds, time.monotonic()
        with (
            stop_on_signals() as stop,
            Progress(self.config.steps, "training step", self.step, self.world.is_main) as progress,
            log or nullcontext(),
        ):
            streams = [stream.open(self.consumed) for stream in self.streams]
            while self.step < self.config.steps:
                self._train_step(streams)
                self.seconds = before + time.monotonic() - start
                progress.advance()
                self._after_step(log, progress)
                if self._must_stop(stop.asked):
                    self.save()
                    break
        return self.step >= self.config.steps

    def save(self) -> None:
        """Write the training state (the main process does), with every process's random generators."""
        self._meter.check()
        randoms = distributed.gather(checkpointing.random_state(self.device), self.world)
        if self.world.is_main:
            state = {
                "step": self.step,
                "consumed": self.consumed,
                "seconds": self.seconds,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "scaler": self.scaler.state_dict(),
                "random": randoms,
            }
            checkpointing.save(state, self.checkpoints, self.step, self.config.keep_last)

    def _resume(self) -> None:
        found = checkpointing.latest(self.checkpoints)
        if found is None:
            return
        path, state = found
        checkpoint.fill(self.model, state["model"], path)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.consumed, self.seconds = state["step"], state["consumed"], state["seconds"]
        if self.world.rank < len(state["random"]):
            checkpointing.restore_random_state(state["random"][self.world.rank], self.device)

    def _wrap(self, learner: Learner) -> nn.Module:
        if self.config.compile:
            for name in ("backbone", "pixel_decoder"):
                self.model.get_submodule(name).compile()
        if self.world.size == 1:
            return learner
        # A hint at speed, about the strides of depth-wise convolutions' gradients, that nobody can act on.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        # Which parameters take part depends on the streams' tasks.
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(learner, device_ids=devices, find_unused_parameters=True)

    def _train_step(self, streams: Sequence[Iterator[Batch]]) -> None:
        parts = self.config.accumulation
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        pictures: list[str] = []
        total = torch.zeros((), device=self.device)
        for part in range(parts):
            batches = _draw(streams)
            self.consumed += 1
            pictures += [f"{batch.source}/{sample.id}" for batch in batches for sample in batch.samples]
            with self._exchanging_gradients(last=part == parts - 1):
                with self.precision.autocast():
                    terms = self.learner(to_device(batches, self.device))
                loss = torch.stack([value.float() for value in terms.values()]).sum() / parts
                self.scaler.scale(loss).backward()
            total += loss.detach()
            self._meter.add_terms(terms, parts)
        self._update(total, pictures)

    def _update(self, loss: Tensor, pictures: list[str]) -> None:
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        if self.config.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.config.clip_norm, norm)
        self._meter.add_step(self.step + 1, loss, norm, pictures)
        if self.device.type == "cpu" or self.scaler.is_enabled():
            self._meter.check()
        else:
            # To ask a GPU whether the loss is finite is to wait for it. The fused update leaves out all steps from the first
            # bad one on by itself, and the next log line tells.
            self.optimizer.found_inf = self._meter.bad  # type: ignore[attr-defined]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        self.step += 1

    def _exchanging_gradients(self, last: bool) -> AbstractContextManager[None]:
        """Processes exchange gradients once a step, in its last backward."""
        if last or not isinstance(self.learner, DistributedDataParallel):
            return nullcontext()
        held: AbstractContextManager[None] = self.learner.no_sync()
        return held

    def _after_step(self, log: RunLog | None, progress: Progress) -> None:
        config, done = self.config, self.step == self.config.steps
        if done or self.step % config.log_every == 0:
            self._meter.check()
            figures = self._meter.flush(self.world.size)
            progress.tell(summary(figures))
            if log:
                rate = config.learning_rate * self.schedule.lr_lambdas[0](self.step - 1)
                log.write(self.step, {"seconds": self.seconds, "learning_rate": rate, **figures})
        if done or self.step % config.save_every == 0:
            self.save()
        if self.evaluate and config.evaluate_every and self.step % config.evaluate_every == 0 and not done:
            start = time.monotonic()
            with _undisturbed(self.device):
                results = self.evaluate()
            self._meter.leave_out(time.monotonic() - start)
            if log:
                log.write_results(self.step, results)

    def _must_stop(self, asked: bool) -> bool:
        """Processes must stop at the same step, so several look only now and then whether one of them was asked to."""
        if self.world.size > 1 and self.step % self.config.log_every:
            return False
        return distributed.anywhere(asked, self.world, self.device)


def _draw(streams: Sequence[Iterator[Batch]]) -> list[Batch]:
    """The next batch of each. Loaders may draw from torch's generator; that must not change what the model draws."""
    with torch.random.fork_rng(devices=[]):
        return [next(stream) for stream in streams]


@contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """After the block the random generators are where they were before it."""
    before = checkpointing.random_state(device)
    try:
        yield
    finally:
        checkpointing.restore_random_state(before, device)
