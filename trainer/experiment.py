"""An experiment as one YAML file: the network, its tasks, the data, how to train, where to write."""

from __future__ import annotations

import difflib
import logging
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import yaml
from pydantic import BeforeValidator, Field, model_validator

from datasets.bad import BadSamples
from datasets.fingerprint import fingerprint
from datasets.loader import train_loader
from datasets.streams import DataConfig, StreamConfig
from trainer import adaptation, checkpointing, lock
from trainer.distributed import World, barrier
from trainer.evaluation.results import record, versions
from trainer.protocol import protocol_of
from trainer.trainer import Stream, Trainer, TrainerConfig
from xdecoder import checkpoint
from xdecoder.config import Config, ConfigError, read_yaml
from xdecoder.files import atomic, sweep
from xdecoder.integrity import check_zip
from xdecoder.limits import check_sizes
from xdecoder.network import AnyNetwork, Network, NetworkConfig
from xdecoder.published.checkpoints import initialise, open_checkpoint
from xdecoder.tasks import TasksConfig
from xdecoder.types import Batch

logger = logging.getLogger(__name__)

FREE_TO_CHANGE = (
    "output",
    "data.root",
    "data.workers",
    "data.max_bad_samples",
    "data.evaluate",
    "data.fit",
    "trainer.steps",
    "trainer.log_every",
    "trainer.save_every",
    "trainer.keep_last",
    "trainer.evaluate_every",
    "trainer.wandb",
    "trainer.mlflow",
    "trainer.callbacks",
    "trainer.stop_after",
    "trainer.compile",
    "trainer.device",
    "trainer.checkpoint_activations",
    "trainer.keep_best",
    "trainer.rendezvous_seconds",
)
"""Settings with which a run may go on although they differ from those it began with."""


def _named(folder: Any) -> Any:
    """Without a name, the run would be strewn over the current directory."""
    if isinstance(folder, str) and (not Path(folder.strip()).name or "\0" in folder):
        raise ValueError("expected the path of a folder of its own, such as runs/mine")
    return folder


class ExperimentConfig(Config):
    """Everything about one run; `train.py` and `eval.py` read the same file."""

    model: AnyNetwork = Field(default_factory=lambda: NetworkConfig.model_validate({}))
    """The network: X-Decoder, or another by its `name`."""
    tasks: TasksConfig = TasksConfig()
    """Settings of each task, wherever a stream or an evaluation lists it."""
    data: DataConfig
    trainer: TrainerConfig
    weights: str | None = None
    """A checkpoint to start training from: a whole network, or only its backbone or text encoder; a path or an address."""
    output: Annotated[Path, BeforeValidator(_named)]
    """The run folder, relative to the current directory."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Of the initial weights, the order of samples and all that is drawn while training."""

    @model_validator(mode="after")
    def _model_can_be_built(self) -> ExperimentConfig:
        check_sizes(self.model, "model")
        return self

    @model_validator(mode="after")
    def _evaluations_have_names(self) -> ExperimentConfig:
        every, known = self.trainer.evaluate_every, {entry.prefix: None for entry in self.data.evaluate}
        for name in every if isinstance(every, Mapping) else ():
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known) or 'no entries'}"
                raise ValueError(f"trainer.evaluate_every: data.evaluate has no entry {name!r}; {hint}")
        return self

    @property
    def model_file(self) -> Path:
        """Where the trained network stands when the run is finished."""
        return self.output / "model.pt"


def open_run(config: ExperimentConfig, world: World, fresh: bool = False) -> bool:
    """Make or reopen the run folder, clear it of what killed processes were writing, and write config.yaml into it.

    The caller holds the folder's lock (`trainer.lock`).

    Args:
        fresh: begin anew; a folder that is there is moved aside, not overwritten.

    Returns:
        Whether there is anything left to train.

    Raises:
        ConfigError: if the folder holds a run with other settings, or a damaged network and nothing to write it again from.
    """
    if not config.data.train:
        raise ConfigError("data.train: an experiment that trains needs at least one stream")
    if world.is_main:
        if fresh:
            _move_aside(config.output)
        sweep(config.output)
        checkpointing.clear_drafts(config.output / "checkpoints")
    barrier(world)
    settings_file = config.output / "config.yaml"
    settings = config.model_dump(mode="json")
    if settings_file.exists():
        _refuse_other_settings(settings_file, settings)
    if is_finished(config):
        return False
    barrier(world)
    if world.is_main:
        with atomic(settings_file, "w") as file:
            yaml.safe_dump(settings, file, sort_keys=False)
    return True


def is_finished(config: ExperimentConfig) -> bool:
    """Whether the run folder holds a network that was trained to the last step.

    Raises:
        ConfigError: if it is damaged, and no training state is there to write it again from.
    """
    if not config.model_file.exists():
        return False
    states = checkpointing.states(config.output / "checkpoints")
    try:
        check_zip(config.model_file)
    except ValueError as error:
        if not states:
            hint = "bring it back from a copy, or train anew with --fresh, which keeps the folder under another name"
            raise ConfigError(f"{error}; {hint}") from None
        logger.warning("%s; it is written again from the last training state", error)
        return False
    return not states or checkpointing.step_of(states[-1]) >= config.trainer.steps


def build_trainer(
    config: ExperimentConfig,
    device: torch.device,
    world: World,
    evaluate: Callable[[Network, Collection[str] | None], Mapping[str, float]] | None = None,
) -> Trainer:
    """The experiment's trainer, all random generators seeded; if the run folder holds a state, it goes on from there."""
    checkpointing.seed_everything(config.seed)
    model = config.model.build()
    model.protocol = protocol_of(config.tasks, config.data, config.weights)
    for task in (task for stream in config.data.train for task in stream.tasks):
        model.require(task)
    model.keep_texts(config.output / "texts")
    if config.weights and not checkpointing.states(config.output / "checkpoints"):
        started = initialise(model, config.weights)
        if world.is_main:
            print(f"{config.weights}: {started}")
    if config.trainer.lora:
        adaptation.adapt(model, config.trainer.lora)
    adaptation.freeze(model, config.trainer.freeze)
    checkpointing.seed_everything(config.seed + world.rank)  # processes start from equal weights, then draw differently
    bad = BadSamples(config.data.max_bad_samples)
    streams = [
        Stream(
            tasks=config.tasks.build(stream.tasks),
            open=partial(_open, stream, config, world, bad),
            weight=stream.loss_weight,
        )
        for stream in config.data.train
    ]
    data = data_of(config) if world.is_main else {}
    return Trainer(config.trainer, model, streams, device, config.output, world, evaluate, config.seed, lambda: bad.count, data)


def data_of(config: ExperimentConfig) -> dict[str, Any]:
    """A fingerprint of the files that the experiment learns from."""
    return fingerprint((spec for stream in config.data.train for spec in stream.specs), config.data.root)


def origin_of(config: ExperimentConfig, trainer: Trainer) -> dict[str, Any]:
    """What is written into a network's file of how it came about."""
    return {
        "versions": versions(),
        "steps": trainer.step,
        "seconds": round(trainer.seconds, 1),
        "best": trainer.best if math.isfinite(trainer.best) else None,
        "data": dict(trainer.data),
        "tasks": sorted({task for stream in config.data.train for task in stream.tasks}),
        "experiment": config.model_dump(mode="json", exclude={"model", "output"}),
    }


def finish(config: ExperimentConfig, trainer: Trainer) -> None:
    """Write the trained network and how long it took."""
    weights = trainer.weights()
    if trainer.world.is_main:
        checkpoint.save(trainer.model, config.model_file, weights, origin_of(config, trainer))
        record(config.output, {"seconds/train": trainer.seconds})


def load_model(config: ExperimentConfig, source: str | Path | None, device: torch.device) -> Network:
    """The network in `source` (ours or a published one, a path or an address), by default the one that the run has trained.

    It is to be asked as the experiment says.

    Raises:
        ConfigError: if there is none, or it is not the network that the experiment describes.
    """
    if source is None and not config.model_file.is_file():
        expected = "train one with train.py, or name one with --checkpoint"
        raise ConfigError(f"{config.model_file}: no trained network there; {expected}")
    found = open_checkpoint(source or config.model_file)
    if found.inferred:  # the experiment knows what shapes do not tell
        found = replace(found, config=config.model)
    if found.config != config.model:
        key = first_difference(found.config.model_dump(mode="json"), config.model.model_dump(mode="json"))
        raise ConfigError(
            f"{found.path}: checkpoint of another architecture than the experiment's (they differ in model.{key})"
        )
    fitted = {"fitted": found.protocol.fitted, "fitted_on": found.protocol.fitted_on}
    model = replace(found, protocol=protocol_of(config.tasks, config.data).model_copy(update=fitted)).build(device)
    model.keep_texts(config.output / "texts")
    return model


def _open(stream: StreamConfig, config: ExperimentConfig, world: World, bad: BadSamples, start: int) -> Iterator[Batch]:
    return train_loader(
        stream,
        config.data.root,
        seed=config.seed,
        rank=world.rank,
        world_size=world.size,
        workers=config.data.workers,
        start=start,
        bad=bad,
    )


def _move_aside(folder: Path) -> None:
    if not folder.exists() or not any(path.name != lock.FILE for path in folder.iterdir()):
        return
    number = next(n for n in range(1, 10**6) if not folder.with_name(f"{folder.name}.old{n}").exists())
    aside = folder.with_name(f"{folder.name}.old{number}")
    folder.rename(aside)
    if (aside / lock.FILE).exists():  # it stays this process's wherever it lies
        folder.mkdir()
        os.replace(aside / lock.FILE, folder / lock.FILE)
    print(f"{folder} was moved to {aside}")


def _refuse_other_settings(path: Path, settings: Mapping[str, Any]) -> None:
    old, new = (_without(each, FREE_TO_CHANGE) for each in (read_yaml(path), settings))
    key = first_difference(old, new)
    if key is None:
        return
    what = "a checkpoint of another architecture" if key.startswith("model.") else "a run with other settings"
    there, here = (_at(each, key) for each in (old, new))
    raise ConfigError(
        f"{path.parent}: holds {what} ({key} is {there!r} there and {here!r} here); "
        "choose another output, or begin anew with --fresh, which keeps the old folder under another name"
    )


def _without(settings: Mapping[str, Any], keys: tuple[str, ...], prefix: str = "") -> dict[str, Any]:
    return {
        name: _without(value, keys, f"{prefix}{name}.") if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if prefix + name not in keys
    }


def first_difference(old: Any, new: Any) -> str | None:
    """Dotted key of the first place in which two trees of plain settings differ; None if they are equal."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        pairs = {key: (old.get(key), new.get(key)) for key in [*new, *old]}
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = {str(i): pair for i, pair in enumerate(zip(old, new, strict=True))}
    else:
        return None if old == new else ""
    for key, (a, b) in pairs.items():
        inner = first_difference(a, b)
        if inner is not None:
            return f"{key}.{inner}" if inner else str(key)
    return None


def _at(settings: Any, key: str) -> Any:
    for part in key.split("."):
        if isinstance(settings, list):
            settings = settings[int(part)]
        else:
            settings = settings.get(part) if isinstance(settings, Mapping) else None
    return settings
