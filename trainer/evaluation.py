"""Measuring a network on the experiment's evaluation sets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from datasets.evaluators import evaluators_for
from datasets.evaluators.evaluator import Evaluator
from datasets.loader import EvaluationConfig, evaluation_loader, resolve
from trainer import distributed, precision
from trainer.distributed import ALONE, World
from trainer.experiment import ExperimentConfig
from trainer.logging import Progress
from xdecoder.config import Config, ConfigError
from xdecoder.model import XDecoder
from xdecoder.tasks import predict
from xdecoder.types import Sample, to_device


@dataclass(frozen=True)
class Evaluation:
    """Scores such as "shapes_val/PQ", and how those of each set came about. Both are empty but on the main process."""

    results: dict[str, float]
    protocol: dict[str, dict[str, Any]]


def evaluate(
    model: XDecoder,
    config: ExperimentConfig,
    device: torch.device,
    world: World = ALONE,
    names: Collection[str] | None = None,
) -> Evaluation:
    """Measure on every entry of `data.evaluate`, or on those of these names; the model is left in evaluation mode.

    Raises:
        ConfigError: if two entries would give results of the same name.
        ValueError: for data that are missing or wrong.
    """
    _refuse_twins(config.data.evaluate)
    results: dict[str, float] = {}
    protocol: dict[str, dict[str, Any]] = {}
    model.eval()
    for entry in (entry for entry in config.data.evaluate if names is None or entry.prefix in names):
        scores, pictures = _evaluate_entry(model, config, entry, device, world)
        if world.is_main:
            results |= {f"{entry.prefix}/{metric}": value for metric, value in scores.items()}
            protocol[entry.prefix] = protocol.get(entry.prefix, {}) | _protocol(config, entry, device, pictures)
    return Evaluation(results, protocol)


def _refuse_twins(entries: Sequence[EvaluationConfig]) -> None:
    seen: set[tuple[str, str]] = set()
    for name in ((entry.prefix, task) for entry in entries for task in entry.tasks):
        if name in seen:
            raise ConfigError(f"data.evaluate: {name[0]!r} is measured on {name[1]} twice; give one of the entries a label")
        seen.add(name)


def _evaluate_entry(
    model: XDecoder, config: ExperimentConfig, entry: EvaluationConfig, device: torch.device, world: World
) -> tuple[dict[str, float], int]:
    """Scores of one entry, on the main process, and the number of its pictures."""
    root = config.data.root
    loader = evaluation_loader(entry, root, rank=world.rank, world_size=world.size, workers=config.data.workers)
    tasks = config.tasks.build(entry.tasks)
    spec, vocabulary = resolve(entry.dataset), loader.dataset.vocabulary
    evaluators: dict[str, list[Evaluator[Any, Any]]] = {
        name: evaluators_for(name, spec, root, vocabulary) for name in entry.tasks
    }
    autocast = precision.resolve(config.trainer.precision, device).autocast
    with Progress(len(loader), f"measuring {entry.prefix}", show=world.is_main) as progress, torch.inference_mode():
        for batch in loader:
            with autocast():
                answers = to_device(predict(model, tasks, to_device(batch, device)), "cpu")
            if device.type == "cuda":
                torch.cuda.synchronize(device)      # the copies above do not wait for the GPU
            for name, results in answers.items():
                for result, sample in zip(results, batch.samples, strict=True):
                    _update(evaluators[name], name, result, sample)
            progress.advance()
            progress.tell("")
    return _scores(evaluators, world), loader.pictures


def _update(evaluators: list[Evaluator[Any, Any]], task: str, result: Any, sample: Sample) -> None:
    truth = {"segmentation": sample.segments, "referring": sample.phrases}.get(task, sample.captions or None)
    if truth is None:
        return      # a picture may lack what one of the entry's tasks is measured against
    for evaluator in evaluators:
        evaluator.update(result, sample)


def _scores(evaluators: Mapping[str, list[Evaluator[Any, Any]]], world: World) -> dict[str, float]:
    scores: dict[str, float] = {}
    for evaluator in (evaluator for group in evaluators.values() for evaluator in group):
        states = distributed.gather(evaluator.state(), world)
        if world.is_main:
            if world.size > 1:
                evaluator.merge(states)
            scores |= evaluator.compute()
    return scores


def _protocol(config: ExperimentConfig, entry: EvaluationConfig, device: torch.device, pictures: int) -> dict[str, Any]:
    spec = resolve(entry.dataset)
    dtype = precision.resolve(config.trainer.precision, device).dtype
    given = {"pictures": pictures, "transform": entry.transform.model_dump(mode="json")}
    return {
        "dataset": spec.name,
        "evaluators": list(spec.evaluators),
        "precision": str(dtype or torch.float32).removeprefix("torch."),
        "note": spec.protocol,
        **{task: given | _settings_of_scores(getattr(config.tasks, task)) for task in entry.tasks},
    }


def _settings_of_scores(task: Config) -> dict[str, Any]:
    """A task's settings but those of its losses."""
    of_losses = ("weight", "factor", "layers", "points", "matching")
    return {name: value for name, value in task.model_dump(mode="json").items() if not name.endswith(of_losses)}


def table(results: Mapping[str, float]) -> str:
    """Scores as aligned lines, a blank line between data sets."""
    width = max((len(name) for name in results), default=0)
    lines: list[str] = []
    before = None
    for name, value in results.items():
        source = name.rsplit("/", 1)[0]
        if before not in (None, source):
            lines.append("")
        before = source
        lines.append(f"{name:<{width}}  {value:7.2f}")
    return "\n".join(lines)
