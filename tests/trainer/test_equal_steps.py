"""However a step's samples are spread over processes and accumulated parts, the step is the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ranks import CPU, run_ranks
from tests.tiny import VOCABULARY, tiny_config
from trainer.distributed import World
from trainer.trainer import Stream, Trainer, TrainerConfig
from xdecoder.config import parse
from xdecoder.model import XDecoder
from xdecoder.tasks import TasksConfig
from xdecoder.types import Batch, Phrases, Sample, Segments

pytestmark = pytest.mark.slow

STEPS = 20
IMAGES = 4  # of a step
NOUNS = ("cat", "dog", "sky", "lamp")


def sample(number: int) -> Sample:
    """A picture with 0 to 3 regions and 0 to 2 phrases, and captions of several lengths."""
    draw = torch.Generator().manual_seed(number)
    masks = torch.zeros(number % 4, 64, 64, dtype=torch.bool)
    for mask in masks:
        y, x = torch.randint(40, (2,), generator=draw).tolist()
        mask[y : y + 20, x : x + 20] = True
    phrases = min(number % 3, len(masks))
    nouns = NOUNS[number % 4], NOUNS[(number + 1) % 4]
    return Sample(
        number,
        torch.randint(256, (3, 64, 64), generator=draw).byte(),
        (64, 64),
        Segments(masks, torch.arange(3)[: len(masks)], torch.zeros(len(masks), dtype=torch.bool)),
        Phrases(tuple(f"the {word} over there" for word in NOUNS[:phrases]), masks[:phrases]),
        (f"a {nouns[0]} beside the {nouns[1]}", *["a " + "very " * (number % 5) + nouns[0]] * (number % 2)),
        (nouns, nouns[:1]),
    )


def stream(size: int, world: World, start: int) -> Iterator[Batch]:
    """Batches of `size`, dealt out to the processes in turn."""
    while True:
        numbers = range(start * size, (start + 1) * size)[world.rank :: world.size]
        yield Batch(tuple(sample(number) for number in numbers), VOCABULARY, "made")
        start += 1


def trainer(folder: Path, world: World, **changes: Any) -> Trainer:
    """Of the whole model on all tasks, with all that is drawn."""
    settings = {
        "steps": STEPS,
        "learning_rate": 1e-4,
        "schedule": {"name": "constant"},
        "log_every": 1,
        "save_every": STEPS,
        "device": "cpu",
        **changes,
    }
    config = tiny_config()
    torch.manual_seed(0)
    model = XDecoder(config.model_copy(update={"backbone": config.backbone.model_copy(update={"drop_path": 0.5})}))
    torch.manual_seed(world.rank)  # what processes draw from their own generators must not matter
    masks = {"points": 32, "matching": {"points": 32}}
    tasks = parse(TasksConfig, {"segmentation": {**masks, "noun_weight": 1.0}, "referring": masks})
    open_stream = partial(stream, IMAGES // settings.get("accumulation", 1), world)
    streams = [
        Stream(tasks.build(names), open_stream) for names in (["segmentation", "referring"], ["captioning", "retrieval"])
    ]
    image = sample(1).image

    def evaluate(model: XDecoder, names: Any) -> dict[str, float]:
        if not world.is_main:
            return {}  # processes measure on different numbers of pictures
        with torch.inference_mode():
            rows = model.eval().decode(model.encode([image]))[-1]["object"]
            return {"made/semantic": rows.semantic.abs().mean().item(), "made/mask": rows.mask.abs().mean().item()}

    return Trainer(TrainerConfig(**settings), model, streams, CPU, folder, world, evaluate)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def train(folder: Path, world: World, **changes: Any) -> list[dict[str, Any]]:
    """The log of a whole run, on the main process."""
    assert trainer(folder, world, **changes).train()
    return lines(folder / "log.jsonl") if world.is_main else []


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run_ranks(partial(train, tmp_path_factory.mktemp("alone")), 1)[0]


@pytest.mark.parametrize(
    ("ranks", "changes"),
    [
        (2, {}),
        (1, {"accumulation": 2}),
        (2, {"accumulation": 2, "steps": 6}),
        (1, {"checkpoint_activations": True, "steps": 3}),
    ],
    ids=["two processes", "two parts", "two processes with two parts", "recomputed"],
)
def test_the_losses_are_those_of_one_process_with_the_large_batch(
    alone: list[dict[str, Any]], tmp_path: Path, ranks: int, changes: dict[str, Any]
) -> None:
    log = run_ranks(partial(train, tmp_path, **changes), ranks)[0]
    assert_equal(log, alone[: changes.get("steps", STEPS)])


def test_so_they_are_with_shards_that_are_saved_and_taken_up_again(alone: list[dict[str, Any]], tmp_path: Path) -> None:
    def in_two_goes(world: World) -> list[dict[str, Any]]:
        train(tmp_path, world, engine="fsdp", steps=STEPS // 2)
        return train(tmp_path, world, engine="fsdp")

    assert_equal(run_ranks(in_two_goes, 2)[0], alone)
    half, whole = sorted((tmp_path / "checkpoints").iterdir())
    assert [half.name, whole.name] == ["step_00000010", "step_00000020"]
    kinds = sorted({path.suffix for path in whole.iterdir()})
    assert kinds == [".json", ".pt", ".safetensors"], "nothing that would be unpickled"
    with pytest.raises(ValueError, match="step_00000020: a state of trainer.engine fsdp on several processes"):
        train(tmp_path, World())


def test_a_sharded_network_is_measured_and_written_as_a_whole(tmp_path: Path) -> None:
    def norms(world: World, folder: Path, engine: str) -> dict[str, tuple[list[int], float]]:
        trained = trainer(folder, world, engine=engine, steps=3, evaluate_every=1)
        assert trained.train()
        weights = trained.weights()
        return {name: (list(value.shape), value.double().norm().item()) for name, value in weights.items()}

    ((plain,), (sharded, _)) = (
        run_ranks(partial(norms, folder=tmp_path / engine, engine=engine), size) for engine, size in (("ddp", 1), ("fsdp", 2))
    )
    assert {name: shape for name, (shape, _) in sharded.items()} == {name: shape for name, (shape, _) in plain.items()}
    assert [norm for _, norm in sharded.values()] == pytest.approx([norm for _, norm in plain.values()], rel=1e-5, abs=1e-5)
    ours, theirs = (lines(tmp_path / engine / "evaluations.jsonl") for engine in ("fsdp", "ddp"))
    assert [line["step"] for line in ours] == [1, 2]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["results"] == {name: pytest.approx(value, rel=1e-4) for name, value in other["results"].items()}


def assert_equal(log: list[dict[str, Any]], alone: list[dict[str, Any]]) -> None:
    assert len(log) == len(alone) > 0
    worst = 0.0
    for ours, theirs in zip(log, alone, strict=True):
        assert set(ours["losses"]) == set(theirs["losses"])
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        worst = max(worst, abs(ours["loss"] / theirs["loss"] - 1))
    print(f"largest relative difference of {len(log)} losses: {worst:.1e}")
    assert alone[-1]["loss"] != alone[0]["loss"]
