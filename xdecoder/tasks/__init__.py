"""Tasks: one object in one file each; which are trained together is a list of names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, SerializeAsAny, field_validator

from xdecoder.config import Config, ConfigError, parse
from xdecoder.network import Task
from xdecoder.plugins import find
from xdecoder.tasks.captioning import CaptioningConfig
from xdecoder.tasks.classification import ClassificationConfig
from xdecoder.tasks.descriptor import Descriptor
from xdecoder.tasks.interactive import InteractiveConfig
from xdecoder.tasks.referring import ReferringConfig
from xdecoder.tasks.retrieval import RetrievalConfig
from xdecoder.tasks.segmentation import SegmentationConfig
from xdecoder.tasks.vqa import VqaConfig

__all__ = ["Task", "TaskName", "TasksConfig", "descriptor_of", "names"]


class TasksConfig(Config):
    """Settings of each task, used wherever its name is listed."""

    segmentation: SegmentationConfig = SegmentationConfig()
    referring: ReferringConfig = ReferringConfig()
    captioning: CaptioningConfig = CaptioningConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    classification: ClassificationConfig = ClassificationConfig()
    vqa: VqaConfig = VqaConfig()
    interactive: InteractiveConfig = InteractiveConfig()
    others: Mapping[str, SerializeAsAny[Config]] = {}
    """Settings of tasks from elsewhere, by the import path of these settings (`package.module:Config`) or their entry point."""

    @field_validator("others", mode="before")
    @classmethod
    def _as_their_own(cls, settings: Any) -> Any:
        if not isinstance(settings, Mapping):
            return settings
        return {
            name: given if isinstance(given, Config) else parse(_settings_of(name), given, str(name))
            for name, given in settings.items()
        }

    def build(self, names: Sequence[str]) -> list[Task]:
        """The tasks of these names; raises ConfigError for an unknown one."""
        return [self.of(name).build() for name in names]

    def of(self, name: str) -> Any:
        """The settings of the task of this name; raises ConfigError for an unknown one."""
        if name in names():
            return getattr(self, name)
        try:
            return self.others.get(name) or _settings_of(name)()
        except ValueError as error:
            raise ConfigError(str(error)) from None


def names() -> tuple[str, ...]:
    """Of our own tasks."""
    return tuple(name for name in TasksConfig.model_fields if name != "others")


def descriptor_of(name: str) -> Descriptor:
    """What others have to know of the task of this name.

    Raises:
        ValueError: if nothing is called so, or it describes itself by another name.
    """
    descriptor = getattr(_settings_of(name), "descriptor", None)
    if not isinstance(descriptor, Descriptor) or descriptor.name != name:
        raise ValueError(f"task {name!r}: its settings need a class variable 'descriptor', a Descriptor whose name is {name!r}")
    return descriptor


def _settings_of(name: str) -> type[Config]:
    own = {task: f"{field.annotation.__module__}:{field.annotation.__qualname__}" for task, field in _own()}
    return find(name, Config, own, "xdecoder.tasks", "task")


def _own() -> list[tuple[str, Any]]:
    return [(name, TasksConfig.model_fields[name]) for name in names()]


def _known(name: str) -> str:
    return descriptor_of(name).name


TaskName = Annotated[str, AfterValidator(_known)]
"""The name of a task, from here or elsewhere."""
