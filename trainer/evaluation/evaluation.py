"""Measuring a network, or predictions that one has left in files, on the experiment's evaluation sets."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from datasets.dataset import ImageDataset
from datasets.evaluators import evaluators_for
from datasets.evaluators.evaluator import Evaluator, ImageId
from datasets.loader import Batches, evaluation_loader
from datasets.readers.pairs import Pairs
from datasets.spec import DatasetSpec
from datasets.streams import EvaluationConfig, resolve
from datasets.submissions import SavedAnswers, Submission
from datasets.tasks import has_truth
from trainer import distributed, precision
from trainer.distributed import ALONE, World
from trainer.evaluation import present, resume, wild
from trainer.evaluation.resume import PartialResults
from trainer.experiment import ExperimentConfig
from trainer.interrupt import StopRequest, stop_on_signals
from trainer.logging import Progress
from trainer.protocol import settings_for, settings_of_scores
from xdecoder.config import ConfigError
from xdecoder.network import Network
from xdecoder.tasks import TasksConfig, descriptor_of
from xdecoder.types import Batch, Form, SegmentationResult, to_device

Answers = Callable[[Sequence[str], Batch], dict[str, list[Any]]]


@dataclass(frozen=True)
class Evaluation:
    """Scores such as "shapes_val/PQ", and how those of each set came about. Both are empty but on the main process."""

    results: dict[str, float]
    protocol: dict[str, dict[str, Any]]
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By set: per_class, per_image (by task), charts, notes, seconds."""


@dataclass(frozen=True)
class Keeping:
    """What an evaluation leaves on disk while it runs."""

    resume: Path | None = None
    """Folder of what has been found so far, from which the next run goes on."""
    fingerprint: str = ""
    """Of the network; parts that another one has left are not used."""
    predictions: Path | None = None
    """Folder in which predictions are saved, in the official formats."""


class Interrupted(KeyboardInterrupt):
    """Somebody asked to stop; what has been found is kept."""


class Source(Protocol):
    """Where answers come from."""

    def settings(self, spec: DatasetSpec) -> TasksConfig:
        """How what answers was asked, for one set."""
        ...

    def answers(self, entry: EvaluationConfig, spec: DatasetSpec, loader: Batches[ImageDataset]) -> Answers: ...


@dataclass(frozen=True)
class NetworkSource:
    """Asks a network; it must be in evaluation mode."""

    model: Network
    config: ExperimentConfig
    device: torch.device
    unfitted: bool = False
    """Whether it is asked without what was fitted to it."""

    def settings(self, spec: DatasetSpec) -> TasksConfig:
        return settings_for(spec, self.config.tasks, None if self.unfitted else self.model.protocol.fitted)

    def answers(self, entry: EvaluationConfig, spec: DatasetSpec, loader: Batches[ImageDataset]) -> Answers:
        tasks = self.settings(spec).build(entry.tasks)
        autocast = precision.resolve(self.config.trainer.precision, self.device).autocast

        def answer(names: Sequence[str], batch: Batch) -> dict[str, list[Any]]:
            with autocast():
                found = to_device(self.model.predict(tasks, to_device(batch, self.device)), "cpu")
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)  # the copies above do not wait for the GPU
            return found

        return answer if entry.vocabulary == "global" else partial(present.answers, answer)


@dataclass(frozen=True)
class SavedSource:
    """Reads predictions that `Keeping.predictions` has left."""

    folder: Path
    root: Path
    config: ExperimentConfig

    def settings(self, spec: DatasetSpec) -> TasksConfig:
        return settings_for(spec, self.config.tasks)

    def answers(self, entry: EvaluationConfig, spec: DatasetSpec, loader: Batches[ImageDataset]) -> Answers:
        records = loader.dataset.source.records
        known = None if isinstance(records, Pairs) else {record.id for record in records}  # `Pairs` would have to be read
        questions = None if known is None else {question.id for record in records for question in record.questions}
        return SavedAnswers(self.folder / entry.prefix, spec, self.root, loader.dataset.vocabulary, known, questions)


def evaluate(
    model: Network,
    config: ExperimentConfig,
    device: torch.device,
    world: World = ALONE,
    names: Collection[str] | None = None,
) -> Evaluation:
    """Measure a network on every entry of `data.evaluate`, or on those of these names; it is left in evaluation mode."""
    return measure(NetworkSource(model.eval(), config, device), config, world, names=names)


def measure(
    source: Source,
    config: ExperimentConfig,
    world: World = ALONE,
    keeping: Keeping | None = None,
    details: bool = False,
    names: Collection[str] | None = None,
) -> Evaluation:
    """Measure a source of answers on every entry of `data.evaluate`.

    Args:
        keeping: what is left on disk meanwhile; nothing by default.
        details: work out `Evaluation.details` too.
        names: only the entries of these names.

    Raises:
        ConfigError: if two entries would give results of the same name.
        ValueError: for data that are missing or wrong.
        Interrupted: if a signal asked to stop.
    """
    _refuse_twins(config.data.evaluate)
    results: dict[str, float] = {}
    protocol: dict[str, dict[str, Any]] = {}
    known: dict[str, dict[str, Any]] = {}
    for entry in (entry for entry in config.data.evaluate if names is None or entry.prefix in names):
        start = time.monotonic()
        found = _Entry(source, config, entry, world, keeping or Keeping())
        found.run()
        if world.is_main:
            results |= {f"{entry.prefix}/{metric}": value for metric, value in found.scores().items()}
            protocol[entry.prefix] = protocol.get(entry.prefix, {}) | _protocol(config, entry, found, source)
            if details:
                _add(known.setdefault(entry.prefix, {}), found.details() | {"seconds": time.monotonic() - start})
    return Evaluation(results | wild.aggregate(results), protocol, known)


def _refuse_twins(entries: Sequence[EvaluationConfig]) -> None:
    seen: set[tuple[str, str]] = set()
    for name in ((entry.prefix, task) for entry in entries for task in entry.tasks):
        if name in seen:
            raise ConfigError(f"data.evaluate: {name[0]!r} is measured on {name[1]} twice; give one of the entries a label")
        seen.add(name)


class _Entry:
    """One entry of `data.evaluate` on its way."""

    def __init__(
        self, source: Source, config: ExperimentConfig, entry: EvaluationConfig, world: World, keeping: Keeping
    ) -> None:
        root, self.entry, self.world = config.data.root, entry, world
        folder = keeping.resume and keeping.resume / _fingerprint(config, entry, keeping)
        self.resume = PartialResults(folder, world)
        kept = self.resume.found()
        distributed.barrier(world)  # nobody may write a part before all have read what is there
        self.seen: dict[ImageId, bool] = dict(kept.get("seen", {}))
        self.loader = evaluation_loader(
            entry, root, rank=world.rank, world_size=world.size, workers=config.data.workers, done=self.seen
        )
        self.spec: DatasetSpec = self.loader.dataset.source.spec
        vocabulary = self.loader.dataset.vocabulary
        self.answers = source.answers(entry, self.spec, self.loader)
        self.evaluators: dict[str, list[Evaluator[Any, Any]]] = {
            name: evaluators_for(name, self.spec, root, vocabulary) for name in entry.tasks
        }
        self.submission = (
            Submission(keeping.predictions / entry.prefix, self.spec, root, vocabulary) if keeping.predictions else None
        )
        self.reads = None if self.submission else _forms(self.evaluators)
        self.done = len(self.seen) // entry.batch_size // world.size
        if world.is_main:
            for name, keeper in self._keepers().items():
                keeper.merge([kept[name]] if name in kept else [])

    def run(self) -> None:
        """Measure what is left of this process's share, and bring all shares together."""
        fresh: set[ImageId] = set()  # measured, but in no part yet
        total, label = len(self.loader) + self.done, f"measuring {self.entry.prefix}"
        progress = Progress(total, label, done=self.done, show=self.world.is_main)
        try:
            # Who keeps nothing, such as a training that measures now and then, leaves signals to others.
            signals = stop_on_signals() if self.resume.folder else nullcontext(StopRequest())
            with progress, torch.inference_mode(), signals as stop:
                for batch in self.loader:
                    self._take(batch)
                    self.seen |= {sample.id: True for sample in batch.samples}
                    fresh |= {sample.id for sample in batch.samples}
                    progress.advance()
                    progress.tell("")
                    self.resume.save(self._states, fresh, force=stop.asked)
                    if stop.asked:
                        raise Interrupted
        finally:
            self.resume.save(self._states, fresh, force=True)
        for keeper in self._keepers().values():
            states = distributed.gather(keeper.state(), self.world)
            if self.world.size > 1 and self.world.is_main:
                keeper.merge(states)
        if self.submission and self.world.is_main:
            self.submission.write()

    def scores(self) -> dict[str, float]:
        return {name: value for evaluator in self._all() for name, value in evaluator.compute().items()}

    def details(self) -> dict[str, Any]:
        """Scores of classes and of pictures, and what has to be known of the scores."""
        classes: dict[str, dict[str, float]] = {}
        for table in (evaluator.per_class() for evaluator in self._all()):
            for name, row in table.items():
                classes[name] = classes.get(name, {}) | row
        images = {
            task: next((found for found in (one.per_image() for one in evaluators) if found), {})
            for task, evaluators in self.evaluators.items()
        }
        notes = [note for evaluator in self._all() for note in evaluator.notes()]
        charts = {name: chart for evaluator in self._all() for name, chart in evaluator.charts().items()}
        return {"per_class": classes, "per_image": images, "charts": charts, "notes": notes}

    def _take(self, batch: Batch) -> None:
        for name, results in self.answers(self.entry.tasks, replace(batch, reads=self.reads)).items():
            for result, sample in zip(results, batch.samples, strict=True):
                if not has_truth(sample, name):
                    continue  # a picture may lack what one of the entry's tasks is measured against
                for evaluator in self.evaluators[name]:
                    evaluator.update(result, sample)
                if self.submission:
                    self.submission.update(name, result, sample)

    def _all(self) -> list[Evaluator[Any, Any]]:
        return [evaluator for group in self.evaluators.values() for evaluator in group]

    def _keepers(self) -> dict[str, Any]:
        keepers: dict[str, Any] = {type(evaluator).__name__: evaluator for evaluator in self._all()}
        return keepers | ({"submission": self.submission} if self.submission else {})

    def _states(self) -> dict[str, Mapping[ImageId, Any]]:
        return {"seen": self.seen, **{name: keeper.state() for name, keeper in self._keepers().items()}}


def _forms(evaluators: Mapping[str, Sequence[Evaluator[Any, Any]]]) -> frozenset[Form] | None:
    """The forms of a segmentation that somebody reads; None if somebody may read any."""
    segmenting = [group for task, group in evaluators.items() if descriptor_of(task).result is SegmentationResult]
    read = {evaluator.reads for group in segmenting for evaluator in group}
    return None if None in read else frozenset(form for form in read if form)


def _fingerprint(config: ExperimentConfig, entry: EvaluationConfig, keeping: Keeping) -> str:
    settings = {
        "network": keeping.fingerprint,
        "model": config.model.model_dump(mode="json"),
        "tasks": config.tasks.model_dump(mode="json"),
        "entry": entry.model_dump(mode="json"),
        "data": resolve(entry.dataset).model_dump(mode="json"),
        "root": str(config.data.root.absolute()),
        "precision": config.trainer.precision,
        "predictions": str(keeping.predictions),
    }
    return f"{entry.prefix.replace('/', '_')}-{resume.fingerprint(settings)}"


def _add(details: dict[str, Any], more: dict[str, Any]) -> None:
    """What another entry of the same set has found, laid over what is known."""
    for key, value in more.items():
        old = details.get(key)
        details[key] = {**old, **value} if isinstance(old, dict) else old + value if old is not None else value


def _protocol(config: ExperimentConfig, entry: EvaluationConfig, found: _Entry, source: Source) -> dict[str, Any]:
    spec, tasks = found.spec, source.settings(found.spec)
    device = distributed.pick_device(config.trainer.device, ALONE)
    dtype = precision.resolve(config.trainer.precision, device).dtype
    given = {"images": found.loader.images, "transform": entry.transform.model_dump(mode="json")}
    return {
        "dataset": spec.name,
        "evaluators": list(spec.evaluators),
        "vocabulary": entry.vocabulary,
        "precision": str(dtype or torch.float32).removeprefix("torch."),
        "note": spec.protocol,
        **{task: given | settings_of_scores(tasks.of(task)) for task in entry.tasks},
    }


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
