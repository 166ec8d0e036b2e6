"""How a network is to be asked: part of its checkpoint, so that everybody who asks it gets the answers that were measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xdecoder.config import Config
from xdecoder.resizing import Resizing


class Protocol(Config):
    """What a network was taught and measured on, and how. Without any, it is asked as the published networks are."""

    tasks: Mapping[str, Mapping[str, Any]] = {}
    """Settings by task (`xdecoder.tasks.TasksConfig`): templates, background, thresholds, early rejection, how captions are
    written, with which it was measured."""
    fitted: Mapping[str, Mapping[str, Any]] = {}
    """Settings by task that were fitted to this network's own answers on validation data, such as the least score of a phrase
    that means something; they go before those of `tasks`."""
    fitted_on: Mapping[str, Mapping[str, Any]] = {}
    """By task, on what these were fitted, by which rule, and what came of it there."""
    images: Mapping[str, Resizing] = {}
    """By task, how images were resized when it was measured."""
    taught: Mapping[str, tuple[str, ...]] = {}
    """The data sets that it learnt from, and the tasks that it learnt there."""
    measured: Mapping[str, tuple[str, ...]] = {}
    """The data sets that it was measured on, and in which tasks."""
    drawn: Mapping[str, str] = {}
    """Of those data sets that it learnt from and that hold no photographs, what they show."""
    begun: str = ""
    """The checkpoint that its training began with."""

    @property
    def knowledge(self) -> str:
        """What the network was taught, in words; empty where its file does not say, as those of others do not."""
        sets = [f"{name} ({', '.join(tasks)})" for name, tasks in self.taught.items()]
        return " and ".join(
            filter(None, (f"taught {', '.join(sets)}" if sets else "", self.begun and f"begun with {self.begun}"))
        )

    @property
    def limits(self) -> str:
        """What the network cannot know, in a sentence; empty where nothing is known of it."""
        if self.begun or not self.taught or set(self.taught) - set(self.drawn):
            return ""
        return f"this network has learnt from {', '.join(dict.fromkeys(self.drawn.values()))} alone: it knows no photographs"
