"""A task that is measured but not learnt: classes of whole images."""

from __future__ import annotations

import pytest

from tests.tiny import tiny_batch, tiny_model, tiny_tasks
from xdecoder.config import ConfigError


def test_it_is_not_learnt() -> None:
    with pytest.raises(ConfigError, match="task 'classification' is only measured"):
        tiny_model().losses(tiny_tasks().build(["classification"]), tiny_batch())
