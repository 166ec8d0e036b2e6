"""The loop on its own, with a stand-in model and losses of one line."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from tests.ranks import run_ranks
from tests.standin import Model, Task, batches
from trainer import checkpointing
from trainer import trainer as loop
from trainer.callbacks import Callback, Running
from trainer.distributed import World
from trainer.meter import NonFiniteError
from trainer.optim import Constant
from trainer.trainer import Stream, Trainer, TrainerConfig
from xdecoder.config import ConfigError
from xdecoder.losses.context import StepContext
from xdecoder.types import Batch

CPU = torch.device("cpu")
Losses = Callable[[nn.Module, Any, Batch], dict[str, Tensor]]


def config(**changes: Any) -> TrainerConfig:
    return TrainerConfig(**{"steps": 10, "learning_rate": 0.01, "log_every": 2, "save_every": 3, "device": "cpu", **changes})


def trainer(folder: Path, settings: TrainerConfig, **arguments: Any) -> Trainer:
    torch.manual_seed(0)
    streams = arguments.pop("streams", [Stream([Task("a")], batches), Stream([Task("a"), Task("b")], batches, weight=0.5)])
    return Trainer(settings, Model(), streams, CPU, folder, **arguments)


def weights(trained: Trainer) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in trained.model.parameters()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_whole_run(tmp_path: Path) -> None:
    trained = trainer(tmp_path, config())
    assert trained.train()
    log = log_of(tmp_path)
    assert [line["step"] for line in log] == [2, 4, 6, 8, 10]
    assert set(log[0]) == {
        "step",
        "seconds",
        "loss",
        "losses",
        "learning_rate",
        "learning_rates",
        "gradient_norm",
        "images_per_second",
        "data_seconds",
        "compute_seconds",
        "memory_gib",
        "bad_samples",
    }
    assert log[0]["learning_rates"] == {name: pytest.approx(0.0002) for name in ("backbone", "language")}
    assert set(log[0]["losses"]) == {"a/square", "b/square"}
    assert log[0]["loss"] == pytest.approx(sum(log[0]["losses"].values()))
    assert log[-1]["loss"] < log[0]["loss"]
    assert log[0]["learning_rate"] == pytest.approx(0.002), "the second of ten warm-up steps"
    assert [path.name for path in checkpointing.states(tmp_path / "checkpoints")] == ["step_00000009.pt", "step_00000010.pt"]


def test_stream_weights_and_shared_terms(tmp_path: Path) -> None:
    streams = [Stream([Task("a")], batches), Stream([Task("a"), Task("b")], batches, weight=0.5)]
    learner = loop.Learner(Model().eval(), streams)
    batch = next(batches(0))
    terms = learner([batch, batch], [None, None])
    one = learner.model.losses(["a"], batch)["a/square"]
    assert terms["a/square"].item() == pytest.approx(1.5 * one.item())
    assert terms["b/square"].item() == pytest.approx(0.5 * one.item())


def test_a_resumed_run_equals_the_undisturbed_one(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole", config())
    whole.train()
    # The same run, thrown away after step 7 and taken up from the state of step 6.
    broken = trainer(tmp_path / "broken", config())
    original = broken._after_step

    def fail_after_seven(*arguments: Any) -> None:
        original(*arguments)
        if broken.step == 7:
            raise RuntimeError("power cut")

    broken._after_step = fail_after_seven  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="power cut"):
        broken.train()
    resumed = trainer(tmp_path / "broken", config())
    assert resumed.step == 6
    assert resumed.seconds > 0
    assert resumed.train()
    assert same(weights(whole), weights(resumed))
    ours, theirs = log_of(tmp_path / "broken"), log_of(tmp_path / "whole")
    assert [(line["step"], line["losses"]) for line in ours] == [(line["step"], line["losses"]) for line in theirs]


def test_accumulation_equals_the_large_batch(tmp_path: Path) -> None:
    settings = {"steps": 3, "clip_norm": 0.01}
    for name, accumulation, size in (("parts", 2, 4), ("whole", 1, 8)):
        one = Stream([Task("a")], lambda start, size=size: batches(start, size))  # type: ignore[misc]
        trained = trainer(tmp_path / name, config(accumulation=accumulation, **settings), streams=[one])
        trained.model.drop.p = 0.0
        trained.train()
        assert trained.consumed == 3 * accumulation
        if name == "parts":
            parts = weights(trained)
    for a, b in zip(parts, weights(trained), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert log_of(tmp_path / "parts")[0]["loss"] == pytest.approx(log_of(tmp_path / "whole")[0]["loss"], rel=1e-4)


def test_the_whole_gradient_is_clipped(tmp_path: Path) -> None:
    settings = {"steps": 1, "clip_norm": 0.001, "schedule": Constant()}
    trained = trainer(tmp_path, config(**settings))
    trained.train()
    gradients = [parameter.grad for parameter in trained.model.parameters() if parameter.grad is not None]
    assert torch.nn.utils.get_total_norm(gradients).item() == pytest.approx(0.001, rel=1e-3)
    assert log_of(tmp_path)[0]["gradient_norm"] > 0.01, "the log tells the norm before clipping"


def test_a_bad_loss_stops_before_the_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = Model.losses

    def sometimes_nan(model: Model, tasks: Any, batch: Batch, context: StepContext) -> dict[str, Tensor]:
        bad = any(sample.id == 17 for sample in batch.samples)
        return {name: value * (float("nan") if bad else 1.0) for name, value in losses(model, tasks, batch, context).items()}

    monkeypatch.setattr(Model, "losses", sometimes_nan)
    trained = trainer(tmp_path, config(), streams=[Stream([Task("a")], batches)])
    kept: list[list[Tensor]] = []
    original = trained._after_step
    trained._after_step = lambda *rest: (original(*rest), kept.append(weights(trained)))  # type: ignore[assignment, func-returns-value]
    with pytest.raises(NonFiniteError, match="step 5: the loss is nan on pictures set/16, set/17, set/18, set/19"):
        trained.train()
    assert same(weights(trained), kept[-1])
    assert len(kept) == 4
    assert [path.name for path in checkpointing.states(trained.checkpoints)] == ["step_00000003.pt"]
    written = json.loads((tmp_path / "nonfinite_00000005.json").read_text())
    assert written == {"step": 5, "batches": [{"loss": "nan", "images": [f"set/{i}" for i in range(16, 20)]}]}


def test_all_processes_stop_at_a_loss_that_is_bad_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = Model.losses

    def sometimes_nan(model: Model, tasks: Any, batch: Batch, context: StepContext) -> dict[str, Tensor]:
        bad = any(sample.id == 17 for sample in batch.samples)
        return {name: value * (float("nan") if bad else 1.0) for name, value in losses(model, tasks, batch, context).items()}

    def learn(world: World) -> list[Any]:
        def dealt(start: int) -> Iterator[Batch]:
            return (replace(batch, samples=batch.samples[world.rank :: 2]) for batch in batches(start))

        trained = trainer(tmp_path, config(accumulation=2), streams=[Stream([Task("a")], dealt)], world=world)
        with pytest.raises(NonFiniteError) as error:
            trained.train()
        return [error.value.step, trained.step, [weight.sum().item() for weight in weights(trained)]]

    monkeypatch.setattr(Model, "losses", sometimes_nan)
    first, second = run_ranks(learn, 2)
    assert first == second
    assert first[:2] == [3, 2]
    written = json.loads((tmp_path / "nonfinite_00000003.json").read_text())["batches"]
    assert [each["images"] for each in written if each["loss"] == "nan"] == [["set/17", "set/19"]]
    assert sorted(image for each in written for image in each["images"]) == sorted(f"set/{i}" for i in range(16, 24))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_and_the_same_command_goes_on(tmp_path: Path, number: int) -> None:
    whole = trainer(tmp_path / "whole", config())
    whole.train()

    def asked_to_stop(start: int) -> Iterator[Batch]:
        for i, batch in enumerate(batches(start), start=start):
            if i == 4:
                os.kill(os.getpid(), number)
            yield batch

    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    stopped = trainer(
        tmp_path / "run",
        config(),
        streams=[Stream([Task("a")], asked_to_stop), Stream([Task("a"), Task("b")], batches, weight=0.5)],
    )
    assert not stopped.train()
    assert stopped.step == 5
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers
    resumed = trainer(tmp_path / "run", config())
    assert resumed.step == 5
    assert resumed.train()
    assert same(weights(whole), weights(resumed))


def test_evaluations_do_not_change_the_training(tmp_path: Path) -> None:
    plain = trainer(tmp_path / "plain", config())
    plain.train()

    def evaluate(model: nn.Module, names: Collection[str] | None) -> dict[str, float]:
        assert names is None, "an interval without names is for everything"
        torch.rand(5)
        watched.model.eval()
        return {"set/PQ": 1.0}

    watched = trainer(tmp_path / "watched", config(evaluate_every=4), evaluate=evaluate)
    watched.train()
    assert same(weights(plain), weights(watched))
    steps = [json.loads(line)["step"] for line in (tmp_path / "watched" / "evaluations.jsonl").read_text().splitlines()]
    assert steps == [4, 8]


def test_each_evaluation_has_its_own_interval(tmp_path: Path) -> None:
    asked: list[tuple[int, Collection[str] | None]] = []

    def evaluate(model: nn.Module, names: Collection[str] | None) -> dict[str, float]:
        asked.append((watched.step, names))
        return {}

    watched = trainer(tmp_path, config(evaluate_every={"often": 3, "seldom": 6}), evaluate=evaluate)
    watched.train()
    assert asked == [(3, ("often",)), (6, ("often", "seldom")), (9, ("often",))]


def test_waiting_for_data_is_told_apart_from_computing(tmp_path: Path) -> None:
    def slow(start: int) -> Iterator[Batch]:
        for batch in batches(start):
            time.sleep(0.05)
            yield batch

    trainer(tmp_path, config(steps=2), streams=[Stream([Task("a")], slow)]).train()
    (line,) = log_of(tmp_path)
    assert 0.05 <= line["data_seconds"] < 0.1
    assert line["compute_seconds"] > 0
    assert line["images_per_second"] == pytest.approx(4 / (line["data_seconds"] + line["compute_seconds"]))
    assert 0.05 < line["memory_gib"] < 64


def test_the_best_network_is_kept_also_over_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[tuple[Path, Tensor]] = []
    monkeypatch.setattr(loop.checkpoint, "save", lambda model, path, found: kept.append((path, found["head.bias"].clone())))
    scores = iter([1.0, 3.0, 2.0, 2.5])  # after steps 2, 4, 6 and 8
    for steps in (5, 10):
        settings = config(steps=steps, evaluate_every=2, keep_best="set/PQ")
        watched = trainer(tmp_path, settings, evaluate=lambda model, names: {"set/PQ": next(scores)})
        watched.train()
    assert [path for path, _ in kept] == [tmp_path / "checkpoints" / "best.pt"] * 2, "at steps 2 and 4, and never after"
    assert watched.best == 3.0
    with pytest.raises(ConfigError, match=r"trainer.keep_best: no result is called 'set/mIoU'; there are set/PQ"):
        settings = config(evaluate_every=2, keep_best="set/mIoU")
        trainer(tmp_path / "other", settings, evaluate=lambda model, names: {"set/PQ": 1.0}).train()
    with pytest.raises(ValueError, match="keep_best needs evaluate_every"):
        config(keep_best="set/PQ")


def test_training_ends_when_results_become_no_better(tmp_path: Path) -> None:
    scores = iter([1.0, 3.0, 2.0, 2.5, 2.9, 9.0])  # after steps 2, 4, …
    settings = config(steps=20, evaluate_every={"set": 2}, keep_best="set/PQ", stop_after=3)

    def evaluate(model: nn.Module, names: Collection[str] | None) -> dict[str, float]:
        return {"set/PQ": next(scores)}

    first = trainer(tmp_path, settings.model_copy(update={"steps": 7}), evaluate=evaluate)
    assert first.train() and (first.step, first.waited) == (7, 1)
    second = trainer(tmp_path, settings, evaluate=evaluate)
    assert second.train() and (second.step, second.waited, second.best) == (10, 3, 3.0)
    again = trainer(tmp_path, settings, evaluate=evaluate)
    assert again.done and again.train() and again.step == 10, "also when it is asked once more"
    longer = trainer(tmp_path, settings.model_copy(update={"stop_after": 4}), evaluate=evaluate)
    assert not longer.done, "who waits longer may go on"
    with pytest.raises(ValueError, match="stop_after needs keep_best"):
        config(stop_after=3)


class Diary(Callback):
    """What happened, in order."""

    lines: ClassVar[list[str]] = []

    def step_done(self, trainer: Running) -> None:
        self.lines.append(f"step {trainer.step}")

    def evaluated(self, trainer: Running, results: Mapping[str, float]) -> None:
        self.lines.append(f"{results} at {trainer.step}")

    def ended(self, trainer: Running) -> None:
        self.lines.append("end")


def test_callbacks_hear_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diary", sys.modules[__name__])
    monkeypatch.setattr(Diary, "lines", [])
    settings = config(steps=3, evaluate_every=2, callbacks=["diary:Diary"])
    trainer(tmp_path, settings, evaluate=lambda model, names: {"set/PQ": 1.0}).train()
    assert Diary.lines == ["step 1", "{'set/PQ': 1.0} at 2", "step 2", "step 3", "end"]
    with pytest.raises(ValueError, match="callback 'diary:Nobody'"):
        trainer(tmp_path / "other", config(callbacks=["diary:Nobody"]))
    with pytest.raises(ValueError, match="unknown callback 'Diary'"):
        config(callbacks=["Diary"])


def test_a_state_of_another_network_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path, config(steps=3)).train()
    other = Model()
    other.head = nn.Linear(8, 2)
    with pytest.raises(ValueError, match=r"step_00000003\.pt: checkpoint of another architecture .*'head\.weight'"):
        Trainer(config(), other, [Stream([Task("a")], batches)], CPU, tmp_path)


def test_a_full_log_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"log\.jsonl could not be written \(No space left on device\)"):
        loop.RunLog._append(tmp_path / "log.jsonl", {"step": 1})


def test_fp16_without_a_gpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        trainer(tmp_path, config(precision="fp16"))
