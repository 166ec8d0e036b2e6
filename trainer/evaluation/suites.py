"""The open-vocabulary benchmark: which sets it has, how a set is measured by name, and the table of the paper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.catalog import CATALOG, find
from datasets.evaluators import measurers
from datasets.spec import DatasetSpec
from datasets.streams import EvaluationConfig
from trainer.experiment import ExperimentConfig
from xdecoder.config import ConfigError
from xdecoder.files import read_json
from xdecoder.resizing import Stretch
from xdecoder.tasks import descriptor_of, names

COLUMNS = {
    "coco_2017_val_panoptic": "COCO",
    "ade20k_panoptic_val": "ADE-150",
    "ade20k_full_sem_seg_val": "ADE-847",
    "sunrgbd_37_val_seg": "SUN-37",
    "scannet_21_panoptic_val": "ScanNet-20",
    "scannet_21_val_seg": "ScanNet-20",
    "scannet_41_val_seg": "ScanNet-40",
    "cityscapes_fine_panoptic_val": "Cityscapes",
    "cityscapes_fine_instance_seg_val": "Cityscapes",
    "bdd10k_40_panoptic_val": "BDD",
    "bdd10k_val_sem_seg": "BDD",
    "seginw": "SegInW",
    "refcocog_val_umd": "RefCOCOg",
    "coco_karpathy_test": "COCO captions",
    "flickr30k_karpathy_test": "Flickr30k",
    "imagenet_val": "ImageNet",
    "vqav2_val2014": "VQAv2",
}
"""Sets of the paper and what their columns are called, in its order; others follow under their own names."""

HEADLINES = {
    "PQ": "PQ",
    "AP": "AP",
    "mIoU": "mIoU",
    "AP_mean": "AP",
    "AP_median": "median",
    "referring_cIoU": "cIoU",
    "referring_mIoU": "mIoU",
    "referring_precision@0.5": "P@0.5",
    "retrieval_IR@1": "IR@1",
    "retrieval_TR@1": "TR@1",
    "caption_BLEU-4": "B-4",
    "caption_CIDEr": "CIDEr",
    "top1": "top-1",
    "vqa_accuracy": "accuracy",
}
"""The figures of a set that the table shows."""

SEGINW = tuple(name for name in CATALOG if name.startswith("seginw_") and name.endswith("_val"))
GROUPS = {"seginw": SEGINW, "paper": (*(name for name in COLUMNS if name in CATALOG), *SEGINW)}
SQUARE, SQUARES_AT_ONCE = 224, 16


def choose(config: ExperimentConfig, names: Sequence[str] = (), limit: int | None = None) -> ExperimentConfig:
    """The experiment with other sets to measure on, each as the experiment does it or else as its own protocol says.

    Args:
        names: of the catalog, or `paper` or `seginw` for all sets of these benchmarks; by default the experiment's own.
        limit: measure on the first so many pictures of each.

    Raises:
        ValueError: for an unknown name; names the nearest one.
    """
    own: dict[str, list[EvaluationConfig]] = {}
    for entry in config.data.evaluate:
        own.setdefault(entry.prefix, []).append(entry)
    wanted = [name for given in names for name in GROUPS.get(given, (given,))] or list(own)
    entries = [entry for name in dict.fromkeys(wanted) for entry in own.get(name) or entries_of(find(name))]
    if limit is not None:
        entries = [entry.model_copy(update={"limit": min(limit, entry.limit or limit)}) for entry in entries]
    if not entries:
        raise ConfigError("there is nothing to measure; list sets under data.evaluate, or name some with --datasets")
    return config.model_copy(update={"data": config.data.model_copy(update={"evaluate": tuple(entries)})})


def entries_of(spec: DatasetSpec) -> list[EvaluationConfig]:
    """How a set is measured by its own protocol; where it has masks and texts, its texts are about squares."""
    tasks = [task for task in names() if measurers(task, spec)]
    if not tasks:
        raise ValueError(f"data set {spec.name!r} has nothing to be measured against")
    transform, texts = spec.measured_with.transform, [task for task in tasks if descriptor_of(task).look == "square"]
    masks = [task for task in tasks if task not in texts]
    if masks and texts:
        square = Stretch(size=SQUARE)
        return [_entry(spec, masks, transform), _entry(spec, texts, square)]
    return [_entry(spec, tasks, transform)]


def _entry(spec: DatasetSpec, tasks: Sequence[str], transform: Any) -> EvaluationConfig:
    size = SQUARES_AT_ONCE if isinstance(transform, Stretch) else 1
    return EvaluationConfig(dataset=spec.name, tasks=tuple(tasks), batch_size=size, transform=transform)


def paper_table(paths: Sequence[str | Path]) -> str:
    """Results side by side, a row for each file and a column for each set, in Markdown.

    Args:
        paths: results.json or evaluation.json, or the folders that hold them.

    Raises:
        ValueError: for a file that is neither.
    """
    if not paths:
        raise ValueError("table: name one or more files, such as runs/*/results.json")
    rows = {_name(Path(path)): _cells(_read(Path(path))) for path in paths}
    order = list(dict.fromkeys(COLUMNS.values()))
    columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
    columns.sort(key=lambda column: order.index(column[0]) if column[0] in order else len(order))
    if not columns:
        raise ValueError(f"{', '.join(map(str, paths))}: no scores that the table could show")
    head = ["", *(f"{title} {'/'.join(metrics)}" for title, metrics in columns)]
    lines = [[name, *(cells.get(column, "–") for column in columns)] for name, cells in rows.items()]
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    ruler = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        f"| {' | '.join(text.ljust(w) if not i else text.rjust(w) for i, (text, w) in enumerate(zip(line, widths)))} |"
        for line in [head, ruler, *lines]
    )


def _cells(results: Mapping[str, Any]) -> dict[tuple[str, tuple[str, ...]], str]:
    """(column, its figures) -> such as "18.8/9.8/25.0"."""
    found: dict[str, dict[str, str]] = {}
    for key, value in results.items():
        source, _, metric = key.rpartition("/")
        wild = source.startswith("seginw_")
        if metric in HEADLINES and not wild:
            number = isinstance(value, (int, float)) and math.isfinite(value)
            found.setdefault(COLUMNS.get(source, source), {})[metric] = f"{value:.1f}" if number else "–"
    ordered = {title: {m: scores[m] for m in HEADLINES if m in scores} for title, scores in found.items()}
    return {(title, tuple(HEADLINES[m] for m in scores)): "/".join(scores.values()) for title, scores in ordered.items()}


def _read(path: Path) -> dict[str, Any]:
    path = path / "results.json" if path.is_dir() else path
    content = read_json(path)
    results = content.get("results", content) if isinstance(content, dict) else None
    if not isinstance(results, dict) or not any("/" in key for key in results):
        raise ValueError(f"{path}: expected the results.json or the evaluation.json that eval.py writes")
    return results


def _name(path: Path) -> str:
    """The run folder's name, or the file's where it was renamed."""
    if path.is_dir():
        return path.resolve().name
    return path.resolve().parent.name if path.stem in ("results", "evaluation") else path.stem
