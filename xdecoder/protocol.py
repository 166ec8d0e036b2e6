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
    images: Mapping[str, Resizing] = {}
    """By task, how images were resized when it was measured."""
    taught: Mapping[str, tuple[str, ...]] = {}
    """The data sets that it learnt from, and the tasks that it learnt there."""
    measured: Mapping[str, tuple[str, ...]] = {}
    """The data sets that it was measured on, and in which tasks."""
