"""What eval.py does around an evaluation: its options, where answers come from, and all that is written at the end."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from trainer.distributed import World
from trainer.evaluation import fit as fitting
from trainer.evaluation import resume, wild
from trainer.evaluation.evaluation import Evaluation, Keeping, NetworkSource, SavedSource
from trainer.evaluation.results import record, write_record
from trainer.experiment import ExperimentConfig, load_model
from trainer.report.report import write_evaluation_report
from xdecoder.arguments import whole
from xdecoder.config import ConfigError
from xdecoder.download import fetch
from xdecoder.files import sweep, write_json
from xdecoder.integrity import sha256


def add_arguments(parser: argparse.ArgumentParser, score: bool) -> None:
    """The options of `eval.py measure`, or those of `eval.py score`."""
    if score:
        parser.add_argument(
            "--predictions",
            type=Path,
            metavar="DIR",
            help="where they lie, or the wild benchmark's zip (default: OUTPUT/predictions)",
        )
    else:
        parser.add_argument("--checkpoint", metavar="FILE", help="the network: a path or an address (default: the run's)")
        saved = "save what the network says in the official formats, under OUTPUT/predictions"
        parser.add_argument("--save-predictions", action="store_true", help=saved)
    names = "sets of the catalog with commas between them, or paper or seginw (default: data.evaluate of the experiment)"
    parser.add_argument("--datasets", type=_names, default=(), metavar="NAME,...", help=names)
    parser.add_argument("--limit", type=whole(1, 10**9), metavar="N", help="measure on the first N pictures of each set")
    parser.add_argument("--fresh", action="store_true", help="begin anew instead of going on with what was interrupted")
    parser.add_argument(
        "--images",
        type=whole(0, 1000),
        default=4,
        metavar="N",
        help="worst and best pictures of each task that the report shows (default: 4; 0 = no report)",
    )


def source(
    config: ExperimentConfig, options: argparse.Namespace, device: torch.device, score: bool, kept: ExitStack
) -> tuple[NetworkSource | SavedSource, Keeping]:
    """What is measured, and what is kept meanwhile. What killed processes left half-written in the run folder is removed.

    kept: closes what has to stay open until all is measured.
    """
    sweep(config.output)
    if score:
        folder = options.predictions or config.output / "predictions"
        if folder.suffix == ".zip" and folder.is_file():
            return SavedSource(kept.enter_context(wild.unpacked(folder)), config.data.root, config), Keeping()
        if not folder.is_dir():
            advice = "measure with --save-predictions, or name a folder with --predictions"
            raise ConfigError(f"{folder}: no predictions there; {advice}")
        return SavedSource(folder, config.data.root, config), Keeping()
    model = load_model(config, options.checkpoint, device)
    predictions = config.output / "predictions" if options.save_predictions else None
    keeping = Keeping(config.output / "partial", sha256(_file(config, options)), predictions)
    return NetworkSource(model.eval(), config, device), keeping


def fit(config: ExperimentConfig, options: argparse.Namespace, device: torch.device) -> None:
    """What `eval.py fit` does: the network's file gets what fits it, which is told."""
    model = load_model(config, options.checkpoint, device)
    path = _file(config, options)
    for task, values in fitting.fit(NetworkSource(model.eval(), config, device), path, options.keep / 100).items():
        told = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
        )
        print(f"{path}: {task}: {told}")


def forget(keeping: Keeping) -> None:
    """Remove what an interrupted evaluation has left."""
    if keeping.resume:
        resume.clear(keeping.resume)


def finish(
    found: Evaluation,
    source: NetworkSource | SavedSource,
    config: ExperimentConfig,
    options: argparse.Namespace,
    keeping: Keeping,
    command: str,
    seconds: float,
    world: World,
) -> None:
    """Write results.json, protocol.json, evaluation.json and evaluation.html; then nothing is left to go on from."""
    if isinstance(source, SavedSource):
        origin = {"predictions": str(source.folder)}
    else:
        origin = {"checkpoint": str(_file(config, options)), "sha256": keeping.fingerprint}
    record(config.output, {**found.results, "seconds/evaluate": seconds})
    write_json(config.output / "protocol.json", found.protocol)
    content = {
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": origin,
        "device": _device(source),
        "processes": world.size,
        "threads": torch.get_num_threads(),
        "results": found.results,
        "datasets": _datasets(found),
        "settings": config.model_dump(mode="json"),
    }
    path = write_record(config.output, content)
    for name, details in found.details.items():
        for note in details["notes"]:
            print(f"{name}: {note}")
    if keeping.predictions and (packed := wild.pack(keeping.predictions, found.results)):
        print(f"{packed}: predictions in the form that the server of Segmentation in the Wild takes")
    print(f"{path}: protocol, versions, checkpoint and the scores of each class")
    if options.images > 0 and isinstance(source, NetworkSource):
        print(write_evaluation_report(config, source, found, options.images, command))
    forget(keeping)


def _file(config: ExperimentConfig, options: argparse.Namespace) -> Path:
    """Of the network."""
    return fetch(options.checkpoint or config.model_file)


def _datasets(found: Evaluation) -> dict[str, Any]:
    """By set: scores, protocol, seconds, notes, scores of classes; the pictures' scores as pairs, since ids may be numbers."""
    scores: dict[str, dict[str, float]] = {}
    for name, value in found.results.items():
        prefix, _, metric = name.rpartition("/")
        scores.setdefault(prefix, {})[metric] = value
    return {
        prefix: {
            "scores": values,
            "protocol": found.protocol.get(prefix, {}),
            **{key: value for key, value in details.items() if key != "per_image"},
            "per_image": {task: list(rows.items()) for task, rows in details.get("per_image", {}).items() if rows},
        }
        for prefix, values in scores.items()
        for details in [found.details.get(prefix, {})]
    }


def _device(source: NetworkSource | SavedSource) -> str:
    if isinstance(source, SavedSource):
        return "none: predictions were read"
    return torch.cuda.get_device_name(source.device) if source.device.type == "cuda" else "cpu"


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
