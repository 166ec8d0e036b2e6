"""Tasks: one object in one file each; which are trained together is a list of names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdecoder.config import Config, ConfigError
from xdecoder.network import Task
from xdecoder.tasks.captioning import CaptioningConfig
from xdecoder.tasks.classification import ClassificationConfig
from xdecoder.tasks.interactive import InteractiveConfig
from xdecoder.tasks.referring import ReferringConfig
from xdecoder.tasks.retrieval import RetrievalConfig
from xdecoder.tasks.segmentation import SegmentationConfig
from xdecoder.tasks.vqa import VqaConfig

__all__ = ["Task", "TasksConfig"]


class TasksConfig(Config):
    """Settings of each task, used wherever its name is listed."""

    segmentation: SegmentationConfig = SegmentationConfig()
    referring: ReferringConfig = ReferringConfig()
    captioning: CaptioningConfig = CaptioningConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    classification: ClassificationConfig = ClassificationConfig()
    vqa: VqaConfig = VqaConfig()
    interactive: InteractiveConfig = InteractiveConfig()

    def build(self, names: Sequence[str]) -> list[Task]:
        """The tasks of these names; raises ConfigError for an unknown one."""
        unknown = [name for name in names if name not in type(self).model_fields]
        if unknown:
            raise ConfigError(f"unknown task {unknown[0]!r}; tasks are {', '.join(type(self).model_fields)}")
        return [self.of(name).build() for name in names]

    def of(self, name: str) -> Any:
        """The settings of the task of this name."""
        return getattr(self, name)
