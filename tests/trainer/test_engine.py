"""Processes that keep one network, of which a step may leave a part alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.ranks import CPU, run_ranks
from tests.standin import Model, Task, batches
from trainer.distributed import ALONE, World
from trainer.trainer import Stream, Trainer, TrainerConfig
from xdecoder.losses.context import StepContext
from xdecoder.types import Batch

FIRST = 2  # the step, from 1, in which the late part takes part for the first time


class LateModel(Model):
    """A part of it is reached from the second step on, but for every third one; another part never."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.0)
        self.late, self.never = nn.Linear(12, 1), nn.Linear(3, 3)
        self.step = 0

    def losses(self, tasks: Any, batch: Batch, context: StepContext | None = None) -> dict[str, Tensor]:
        self.step += 1
        terms = super().losses(tasks, batch, context)
        if self.step >= FIRST and self.step % 3:
            x = torch.stack(batch.images).flatten(1).float() / 255
            total = context.totals["images"] if context else len(batch)
            terms["set/late"] = (self.late(x)[:, 0] - 1).square().sum() / total
        return terms


def dealt(world: World, start: int) -> Iterator[Batch]:
    for batch in batches(start):
        yield Batch(batch.samples[world.rank :: world.size], None, batch.source)


def trained(folder: Path, steps: int, world: World, engine: str = "ddp") -> dict[str, list[float]]:
    """Weights of the three parts after so many steps, on the main process."""
    settings = {"learning_rate": 1e-2, "warmup_steps": 0, "schedule": {"name": "constant"}, "engine": engine}
    config = TrainerConfig(steps=steps, device="cpu", **settings)  # type: ignore[arg-type]
    streams = [Stream([Task("set")], lambda start: dealt(world, start))]
    trainer = Trainer(config, LateModel(), streams, CPU, folder, world)
    assert trainer.train()
    return {name: value.flatten().tolist() for name, value in trainer.weights().items()}


def test_a_sharded_run_goes_on_although_no_step_has_reached_a_part(tmp_path: Path) -> None:
    def in_three_goes(world: World, engine: str) -> dict[str, list[float]]:
        goes = [trained(tmp_path / engine, steps, world, engine) for steps in (1, 3, 5)]
        return goes[-1]

    sharded, whole = (run_ranks(lambda world, engine=engine: in_three_goes(world, engine), 2)[0] for engine in ("fsdp", "ddp"))
    assert sharded.keys() == whole.keys()
    assert all(sharded[name] == pytest.approx(whole[name], rel=1e-5) for name in whole)


@pytest.mark.parametrize("steps", [1, 5])
def test_a_part_that_takes_part_late_is_learnt_by_all(tmp_path: Path, steps: int) -> None:
    alone = trained(tmp_path / "alone", steps, ALONE)
    first, second = run_ranks(lambda world: trained(tmp_path / "both", steps, world), 2)
    assert first == second  # one network
    for name, value in alone.items():
        torch.testing.assert_close(torch.tensor(first[name]), torch.tensor(value), rtol=1e-4, atol=1e-5)
    start = {name: value.flatten().tolist() for name, value in LateModel().state_dict().items()}
    moved = {name.partition(".")[0] for name in start if alone[name] != start[name]}
    assert moved == {"backbone", "language", "head"} | ({"late"} if steps >= FIRST else set())
