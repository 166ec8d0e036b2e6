"""The training loop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from datasets.fingerprint import differences
from trainer import checkpointing, distributed
from trainer.adaptation import LoraConfig, merged
from trainer.callbacks import Callback, CallbackName
from trainer.callbacks import build as build_callback
from trainer.distributed import ALONE, World
from trainer.engine import EngineName, build_engine, total_norm
from trainer.global_batch import GlobalBatch, SeededBatch, place
from trainer.heartbeat import saving_when_lost
from trainer.interrupt import stop_on_signals
from trainer.lock import locked
from trainer.logging import Progress, RunLog
from trainer.meter import Meter, NonFiniteError, Part, summary
from trainer.mlflow import MlflowConfig
from trainer.optim import MultiStep, Schedule, build_optimizer, build_schedule
from trainer.precision import PrecisionName, resolve
from trainer.saving import Saving
from trainer.wandb import WandbConfig
from xdecoder import checkpoint
from xdecoder.config import Config, ConfigError
from xdecoder.files import write_json
from xdecoder.losses.context import StepContext
from xdecoder.network import Network, Task
from xdecoder.types import Batch, to_device

logger = logging.getLogger(__name__)
Positive = Annotated[int, Field(gt=0)]


class TrainerConfig(Config):
    """How to train; rates, decay, clipping and schedule default to the published recipe."""

    steps: int = Field(gt=0)
    """Optimiser steps."""
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    lr_multipliers: Mapping[str, Annotated[float, Field(ge=0)]] | None = None
    """Factor of the learning rate for all below a module, given by its name or a pattern such as `backbone.stages.[01]`; the
    longest match counts. null: those of the network (X-Decoder: backbone and language learn at a tenth)."""
    freeze: tuple[str, ...] = ()
    """Modules that keep their weights, by name or pattern, such as [backbone, language]."""
    lora: LoraConfig | None = None
    """Learn low-rank updates of the attention projections only; the trained network has them merged in."""
    schedule: Schedule = MultiStep()
    warmup_steps: int = Field(10, ge=0)
    """Steps over which the learning rate rises to its full value."""
    clip_norm: float | None = Field(5.0, gt=0)
    """Largest L2 norm of the whole gradient; null: no limit."""
    accumulation: int = Field(1, gt=0, le=2**20)
    """Batches of each stream that make one step; it equals the step of one batch of all their pictures."""
    engine: EngineName = "ddp"
    """How several processes keep the network: ddp, each a copy; fsdp, each a share, which takes less memory."""
    checkpoint_activations: bool = False
    """Keep only the inputs of the network's layers for the backward and compute the rest again: saves memory, costs time."""
    precision: PrecisionName = "auto"
    """auto: bf16 on a GPU that has it, else float32."""
    log_every: int = Field(20, gt=0)
    """Steps between two lines of log.jsonl; they hold the means since the line before."""
    save_every: int = Field(1000, gt=0)
    """Steps between two saved training states."""
    keep_last: int = Field(2, gt=0)
    """Training states that are kept."""
    keep_best: str | None = None
    """A result of the evaluations during training, such as shapes_val/PQ: where it is highest, the network is kept as
    checkpoints/best.pt."""
    stop_after: Positive | None = None
    """Training ends when so many evaluations in a row have not given a better `keep_best`; null: not before the last step."""
    evaluate_every: Positive | Mapping[str, Positive] | None = None
    """Steps between two evaluations during training: of all of `data.evaluate`, or by name, such as {coco_val: 5000}, of those
    entries whose label or data set is named; null: none."""
    wandb: WandbConfig | None = None
    """Send the curves to Weights & Biases too."""
    mlflow: MlflowConfig | None = None
    """Send them to MLflow too."""
    callbacks: tuple[CallbackName, ...] = ()
    """Listeners from elsewhere (`trainer.callbacks.Callback`), by import path or entry point."""
    compile: bool = False
    """Compile what reads images."""
    channels_last: bool = False
    """Lay convolutions out with channels last, which suits recent GPUs."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto: a GPU of NVIDIA's kind, else the processor; mps, Apple's, only when asked for."""
    rendezvous_seconds: float = Field(120.0, gt=0, le=86400)
    """How long processes wait for each other at the start."""
    silence_seconds: float = Field(60.0, ge=5, le=86400)
    """A process that gives no sign of life for so long is taken for lost, and the others end."""

    @property
    def patience(self) -> tuple[timedelta, float]:
        """How long processes wait for each other at the start, and for a sign of life later."""
        return timedelta(seconds=self.rendezvous_seconds), self.silence_seconds

    @model_validator(mode="after")
    def _best_is_measured(self) -> TrainerConfig:
        if self.keep_best and not self.evaluate_every:
            raise ValueError("keep_best needs evaluate_every, so that there are results to choose by")
        if self.stop_after and not self.keep_best:
            raise ValueError("stop_after needs keep_best, the result that is to become better")
        return self

    @model_validator(mode="after")
    def _shards_are_not_scaled(self) -> TrainerConfig:
        if self.engine == "fsdp" and self.precision == "fp16":
            raise ValueError("precision fp16 does not go with engine fsdp; use bf16")
        return self


Evaluate = Callable[[Any, Collection[str] | None], Mapping[str, float]]


@dataclass(frozen=True)
class Stream:
    """Batches of one kind, and what is learnt from them."""

    tasks: Sequence[Task]
    open: Callable[[int], Iterator[Batch]]  # endless batches, from the n-th on
    weight: float = 1.0  # of its losses


class Learner(nn.Module):
    """The model with its losses, as one forward over a batch of each stream: what data parallelism wraps."""

    def __init__(self, model: Network, streams: Sequence[Stream]) -> None:
        super().__init__()
        self.model = model
        self._streams = streams

    def forward(self, batches: Sequence[Batch | None], context: Sequence[StepContext | None]) -> dict[str, Tensor]:
        """Weighted scalar terms; their sum is the loss. Streams that share a task add to the same terms.

        Args:
            batches: one of each stream; None leaves a stream out.
            context: what each batch knows of the others of the step; None: there are none.
        """
        terms: dict[str, Tensor] = {}
        for stream, batch, others in zip(self._streams, batches, context, strict=True):
            if batch is None:
                continue
            for name, value in self.model.losses(stream.tasks, batch, others).items():
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
        evaluate: measures a model in the middle of training, on the named entries of `data.evaluate` or (None) all; results
            by name.
        seed: of all that training draws.
        data: a fingerprint of the files that are learnt from, on the main process; a difference from the state's is told.
        bad_samples: tells how many of this process's samples could not be read so far, for the log.
    """

    def __init__(
        self,
        config: TrainerConfig,
        model: Network,
        streams: Sequence[Stream],
        device: torch.device,
        run_folder: Path,
        world: World = ALONE,
        evaluate: Evaluate | None = None,
        seed: int = 0,
        bad_samples: Callable[[], int] = lambda: 0,
        data: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._bad_samples, self.data = bad_samples, data
        self.config, self.streams, self.device, self.world = config, streams, device, world
        self.run_folder, self.evaluate, self.seed = Path(run_folder), evaluate, seed
        layout = torch.channels_last if config.channels_last else torch.preserve_format
        self.model = model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        self.precision = resolve(config.precision, device)
        self.scaler = self.precision.scaler()
        self.engine = build_engine(config.engine, Learner(model, streams), world, device, config.checkpoint_activations)
        if config.compile:
            model.compile_encoder()
        self.multipliers = model.lr_multipliers if config.lr_multipliers is None else config.lr_multipliers
        self.optimizer = build_optimizer(model, config.learning_rate, config.weight_decay, self.multipliers)
        self.schedule = build_schedule(self.optimizer, config.schedule, config.steps, config.warmup_steps)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.step = 0  # finished optimiser steps
        self.consumed = 0  # batches drawn of each stream
        self.seconds = 0.0  # spent on training, over all resumes
        self.best = float("-inf")  # result by which the best network is kept
        self.waited = 0  # evaluations since there was a better one
        self.callbacks: list[Callback] = [build_callback(name) for name in config.callbacks]
        self._at_rest = threading.Lock()  # nobody is changing weights or writing a state
        self._saved: tuple[int, float, int] | None = None  # step, best result and waited of the newest state that was written
        self._saving = Saving()
        self._meter = Meter(device, watch_gradient=not self.scaler.is_enabled())
        self._resume()

    @property
    def checkpoints(self) -> Path:
        return self.run_folder / "checkpoints"

    def train(self, step_done: Callable[[], None] = lambda: None) -> bool:
        """Train to the end; False if a signal asked to stop before, in which case the state is saved.

        Args:
            step_done: is called after every step.

        Raises:
            NonFiniteError: naming the step and the pictures.
            OSError: if a state or the log cannot be written.
        """
        if self.done:
            return True
        config = self.config
        log = RunLog(self.run_folder, self.step, config.wandb, config.mlflow) if self.world.is_main else None
        before, start = self.seconds, time.monotonic()
        with (
            stop_on_signals() as stop,
            Progress(self.config.steps, "training step", self.step, self.world.is_main) as progress,
            log or nullcontext(),
            self._saving,
            saving_when_lost(self._save_alone),
        ):
            streams = [stream.open(self.consumed) for stream in self.streams]
            self.engine.start()
            while not self.done:
                self._train_step(streams)
                step_done()
                self.seconds = before + time.monotonic() - start
                progress.advance()
                self._after_step(log, progress)
                for callback in self.callbacks:
                    callback.step_done(self)
                if self._must_stop(stop.asked):
                    self.save()
                    break
            self._saving.finish()
            for callback in self.callbacks:
                callback.ended(self)
        return self.done

    @property
    def done(self) -> bool:
        """Whether the last step is made, or results have not become better for as long as `stop_after` says."""
        patience = self.config.stop_after
        return self.step >= self.config.steps or (patience is not None and self.waited >= patience)

    def weights(self) -> dict[str, Tensor]:
        """The network's weights, in the names and shapes of a plain one, on the main process. All processes must ask."""
        return merged(self.engine.weights(self.model))

    def save(self) -> None:
        """Write the training state, with every process's random generators and unfinished log line. All processes must call.

        Training may go on then; that the state is read back and takes its name happens beside it.
        """
        if self._saved == (self.step, self.best, self.waited):
            return
        self._check()
        own = {"random": checkpointing.random_state(self.device), "meter": self._meter.state_dict()}
        plain = self._plain(distributed.gather(own, self.world))
        with self._at_rest:
            self._saving.settle()
            rest = self.engine.save(plain, self.model, self.optimizer, self.checkpoints, self.step, self.config.keep_last)
            self._saving.begin(rest)
            self._saved = (self.step, self.best, self.waited)

    def _plain(self, processes: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
        return {
            "step": self.step,
            "consumed": self.consumed,
            "seconds": self.seconds,
            "best": self.best,
            "waited": self.waited,
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "processes": list(processes),
            "data": dict(self.data),
        }

    def _save_alone(self, lost: int) -> str:
        """Write the state of the last finished step when another process is gone; says from where the run goes on.

        Of the others' random generators nothing is known then. May run beside a main thread that waits for the lost process.
        """
        there = "the same command goes on from the last saved state"
        self._saving.settle()
        if self.world.rank != int(lost == 0) or not self.engine.whole_everywhere or not self._at_rest.acquire(timeout=60):
            return f"; {there}"
        owned = nullcontext() if self.world.is_main else locked(self.run_folder, ALONE)
        try:
            with owned:
                if self.step not in map(checkpointing.step_of, checkpointing.states(self.checkpoints)):
                    plain = self._plain([None] * self.world.size)
                    rest = self.engine.write(
                        plain, self.model, self.optimizer, self.checkpoints, self.step, self.config.keep_last
                    )
                    rest()
        except (OSError, ValueError) as error:
            return f"; step {self.step} could not be saved ({error}), {there}"
        finally:
            self._at_rest.release()
        return f"; step {self.step} is saved, and the same command goes on from there"

    def _resume(self) -> None:
        found = checkpointing.latest(self.checkpoints, self.world)
        if found is None:
            return
        path, state = found
        self.engine.load(path, state, self.model, self.optimizer)
        self.schedule.load_state_dict(state["schedule"])
        for group, rate in zip(self.optimizer.param_groups, self.schedule.get_last_lr(), strict=True):
            group["lr"] = rate
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.consumed, self.seconds, self.best = (state[key] for key in ("step", "consumed", "seconds", "best"))
        self.waited = state.get("waited", 0)  # states of before this was counted have none
        self._saved = (self.step, self.best, self.waited)
        for difference in differences(state.get("data", {}), self.data):
            logger.warning("%s; going on from step %d with them", difference, self.step)
        if len(state["processes"]) == self.world.size and None not in state["processes"]:
            own = state["processes"][self.world.rank]
            checkpointing.restore_random_state(own["random"], self.device)
            self._meter.load_state_dict(own["meter"])

    def _train_step(self, streams: Sequence[Iterator[Batch]]) -> None:
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        with self._meter.waiting_for_data():
            parts = [self._draw_part(streams, self.consumed + number) for number in range(self.config.accumulation)]
        global_batches = [self._global_batch(number, batches) for number, batches in enumerate(zip(*parts, strict=True))]
        done: list[Part] = []
        for number, batches in enumerate(parts):
            with self.engine.exchanging_gradients(last=number == len(parts) - 1):
                with self.precision.autocast():
                    context = [global_batch.context(number) for global_batch in global_batches]
                    terms = self.engine.learner(to_device([placed.batch for placed in batches], self.device), context)
                loss = torch.stack([value.float() for value in terms.values()]).sum()
                # Engines take the mean over processes, whose losses add up to the step's.
                self.scaler.scale(loss * self.world.size).backward()
            done.append(Part(loss.detach(), [f"{p.batch.source}/{sample.id}" for p in batches for sample in p.batch.samples]))
            self._meter.add_terms(terms)
        self._update(done)

    def _draw_part(self, streams: Sequence[Iterator[Batch]], at: int) -> list[SeededBatch]:
        return [place(batch, at, (self.seed, number), self.step, self.world) for number, batch in enumerate(_draw(streams))]

    def _global_batch(self, number: int, parts: Sequence[SeededBatch]) -> GlobalBatch:
        """Let all parts of a stream know of each other, by a collecting pass if samples of several are compared."""
        tasks = self.streams[number].tasks
        found = [self.model.counts(tasks, placed.batch) for placed in parts]
        global_batch = GlobalBatch(found, [placed.places for placed in parts], self.world)
        if len(parts) > 1 and any(task.compares for task in tasks):
            for part, placed in enumerate(parts):
                batches: list[Batch | None] = [None] * len(self.streams)
                batches[number] = to_device(placed.batch, self.device)
                with torch.no_grad(), self.precision.autocast(), _undisturbed(self.device):
                    self.engine.learner(batches, [global_batch.collecting_pass(part)] * len(batches))
        return global_batch

    def _update(self, parts: list[Part]) -> None:
        self.scaler.unscale_(self.optimizer)
        norm = total_norm(self.parameters)
        if self.config.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.config.clip_norm, norm)
        loss = distributed.total(torch.stack([part.loss for part in parts]).sum(), self.world)
        self._meter.add_step(self.step + 1, loss, norm, parts)
        if self.device.type != "cuda" or self.scaler.is_enabled() or self.config.engine == "fsdp":
            self._check()
        else:
            # To ask a GPU whether the loss is finite is to wait for it. The fused update leaves out all steps from the first
            # bad one on by itself, and the next log line tells.
            self.optimizer.found_inf = self._meter.bad  # type: ignore[attr-defined]
        with self._at_rest:
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.schedule.step()
            self.step += 1
            self.consumed += self.config.accumulation

    def _check(self) -> None:
        """Raises NonFiniteError, on all processes at the same step, once the main one has written down what was in it."""
        try:
            self._meter.check()
        except NonFiniteError as error:
            batches = [part for theirs in distributed.gather(error.parts, self.world) for part in theirs]
            if self.world.is_main:
                write_json(self.run_folder / f"nonfinite_{error.step:08}.json", {"step": error.step, "batches": batches})
            raise

    def _after_step(self, log: RunLog | None, progress: Progress) -> None:
        config, done = self.config, self.step == self.config.steps
        self._saving.settle(wait=False)
        if done or self.step % config.log_every == 0:
            self._check()
            figures = self._meter.flush(self.world)
            figures["bad_samples"] = int(distributed.total(torch.tensor(self._bad_samples()), self.world))
            progress.tell(summary(figures))
            if log:
                rate = config.learning_rate * self.schedule.lr_lambdas[0](self.step - 1)
                rates = {name: rate * factor for name, factor in self.multipliers.items()}
                log.write(self.step, {"seconds": self.seconds, "learning_rate": rate, "learning_rates": rates, **figures})
        if done or self.step % config.save_every == 0:
            self.save()
        names = due_evaluations(config.evaluate_every, self.step)
        if self.evaluate and names != () and not done:
            start = time.monotonic()
            with _undisturbed(self.device), self.engine.whole(self.model) as model:
                results = self.evaluate(model, names)
            self._keep_best(results)
            for callback in self.callbacks:
                callback.evaluated(self, results)
            self._meter.leave_out(time.monotonic() - start)
            if log:
                log.write_results(self.step, results)
            if self.done:
                self.save()

    def _keep_best(self, results: Mapping[str, float]) -> None:
        """Write the network if it is the best so far. Results are the main process's; all of them must ask."""
        name = self.config.keep_best
        if name is None:
            return
        if self.world.is_main and name not in results and name.split("/")[0] in {each.split("/")[0] for each in results}:
            raise ConfigError(f"trainer.keep_best: no result is called {name!r}; there are {', '.join(sorted(results))}")
        if not distributed.anywhere(results.get(name, float("-inf")) > self.best, self.world):
            self.waited += distributed.anywhere(name in results, self.world)
            return
        self.waited = 0
        self.best, weights = results.get(name, self.best), self.weights()
        if self.world.is_main:
            checkpoint.save(self.model, self.checkpoints / "best.pt", weights)

    def _must_stop(self, asked: bool) -> bool:
        """Whether any process was asked to; they must stop at the same step."""
        return distributed.anywhere(asked, self.world)


def due_evaluations(every: int | Mapping[str, int] | None, step: int) -> tuple[str, ...] | None:
    """The names of what is to be measured after a step: none of them is (), None is all of `data.evaluate`."""
    if isinstance(every, Mapping):
        return tuple(name for name, steps in every.items() if step % steps == 0)
    return None if every and step % every == 0 else ()


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
