"""How an experiment asks its network: settings of tasks, and the protocol that goes into the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from datasets.spec import DatasetSpec
from datasets.streams import DataConfig, resolve
from datasets.transforms import LargeScaleJitter, RandomCrop
from xdecoder.config import Config, parse
from xdecoder.protocol import Protocol
from xdecoder.tasks import TasksConfig

OF_LOSSES = ("weight", "factor", "layers", "points", "matching")
"""What the names of those settings end in that say how a task is learnt."""

Settings = TypeVar("Settings", bound=Config)


def settings_for(spec: DatasetSpec, tasks: TasksConfig, fitted: Mapping[str, Mapping[str, Any]] | None = None) -> TasksConfig:
    """The tasks' settings for one set: what the experiment says, and where it says nothing the set's own protocol.

    fitted: by task, what was fitted to the network that is asked; taken where the experiment says nothing.
    """
    settings = _filled(tasks, spec.measured_with.model_dump())
    changed = {}
    for task, values in (fitted or {}).items():
        said, own = getattr(tasks, task).model_fields_set, getattr(settings, task)
        fresh = {key: value for key, value in values.items() if key not in said}
        changed[task] = parse(type(own), own.model_dump() | fresh, f"what was fitted for {task} to the network")
    return settings.model_copy(update=changed)


def _filled(settings: Settings, wanted: Mapping[str, Any]) -> Settings:
    """The settings, and those below them, with the wanted values in those places about which nobody has said anything."""
    changed = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Config):
            changed[name] = _filled(value, wanted)
        elif name in wanted and name not in settings.model_fields_set:
            changed[name] = wanted[name]
    return settings.model_copy(update=changed)


def settings_of_scores(task: Config) -> dict[str, Any]:
    """A task's settings but those of its losses."""
    return {name: value for name, value in task.model_dump(mode="json").items() if not name.endswith(OF_LOSSES)}


def protocol_of(tasks: TasksConfig, data: DataConfig, begun: str | None = None) -> Protocol:
    """How the network of an experiment is to be asked.

    A task that is measured on several sets is asked as on the first of them; one that is not measured, as the experiment says.

    Args:
        begun: the checkpoint that training begins with.
    """
    found: dict[str, dict[str, Any]] = {}
    images: dict[str, Any] = {}
    taught: dict[str, tuple[str, ...]] = {}
    measured: dict[str, tuple[str, ...]] = {}
    drawn: dict[str, str] = {}
    for entry in data.evaluate:
        spec = resolve(entry.dataset)
        own = settings_for(spec, tasks)
        measured[spec.name] = _united(measured.get(spec.name, ()), entry.tasks)
        for task in entry.tasks:
            if task not in found:
                found[task] = settings_of_scores(own.of(task))
                if not isinstance(entry.transform, (LargeScaleJitter, RandomCrop)):
                    images[task] = entry.transform
    for stream in data.train:
        for spec in stream.specs:
            taught[spec.name] = _united(taught.get(spec.name, ()), stream.tasks)
            if spec.drawn:
                drawn[spec.name] = spec.drawn
        for task in stream.tasks:
            found.setdefault(task, settings_of_scores(tasks.of(task)))
    return Protocol(tasks=found, images=images, taught=taught, measured=measured, drawn=drawn, begun=begun or "")


def _united(some: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*some, *more)))
