"""Experiments told in the published way: upper-case files and the command line that goes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets.catalog import CATALOG, find
from datasets.spec import DatasetSpec
from datasets.tasks import serves
from trainer.experiment import ExperimentConfig
from xdecoder.config import ConfigError, merge, parse, read_yaml
from xdecoder.published import configs
from xdecoder.published.commands import PublishedCommand
from xdecoder.published.configs import PublishedSettings, Rows, translate
from xdecoder.tasks import descriptor_of, names
from xdecoder.tasks.descriptor import Part

_SETS: dict[str, tuple[str, Part]] = {
    "coco_2017_val_panoptic_with_sem_seg": ("coco_2017_val_panoptic", "regions"),
}
"""Published names of sets to measure on: our name, and against what is measured."""

_SECTIONS = ("ade", "vlp", "ref", "coco", "sun", "scan", "bdd", "city", "seginw")
_WEIGHT_KEYS = ("WEIGHT", "RESUME_FROM", "PYLEARN_MODEL")


@dataclass(frozen=True)
class PublishedExperiment:
    """An experiment, and the network that the line names to measure or to start from."""

    config: ExperimentConfig
    weights: str | None


def read(command: PublishedCommand, processes: int = 1, root: str | None = None) -> PublishedExperiment:
    """The experiment of a published command line; its file may be one of theirs or one of ours.

    Args:
        processes: how many share a batch; published batch sizes count the pictures of all.
        root: where the data lie, if the surroundings say so.

    Raises:
        ConfigError: in one sentence, for a file or an override that cannot be followed.
    """
    where = command.files[-1]
    ours = len(command.files) == 1 and not configs.is_published(read_yaml(where))
    tree = {} if ours else configs.read(command.files)
    changes = merge(
        configs.json_overrides(command.json_overrides, tree),
        configs.overrides(command.overrides, tree),
    )
    touched = [key for key, _ in configs.leaves(changes)]
    published = PublishedSettings(merge(tree, changes), where)
    rows = _rows(processes, strict="DATASETS.TEST" in touched, training=command.word == "train")
    if ours:
        settings = merge(read_yaml(where), translate(published, rows, touched))
    else:
        settings = merge({"data": {"root": root}} if root else {}, translate(published, rows))
    weights = _weights(published)
    published.warn_of_idle(touched)
    return PublishedExperiment(parse(ExperimentConfig, settings, where), weights)


def _weights(published: PublishedSettings) -> str | None:
    """WEIGHT is a path in one generation and a switch in the other, where RESUME_FROM holds the path."""
    values = [published[key] for key in _WEIGHT_KEYS]
    return next((value for value in values if isinstance(value, str) and value), None)


def _rows(processes: int, strict: bool, training: bool) -> Rows:
    return {
        **configs.MODEL,
        **configs.TASKS,
        **({"data.train": _streams} if training else {}),
        "data.evaluate": lambda x: _evaluations(x, processes, strict),
        "data.workers": lambda x: min(x["DATALOADER.NUM_WORKERS"], x["COCO.DATALOADER.NUM_WORKERS"]),
        "trainer.steps": _steps,
        "trainer.learning_rate": "SOLVER.BASE_LR",
        "trainer.weight_decay": "SOLVER.WEIGHT_DECAY",
        "trainer.lr_multipliers": lambda x: {
            "backbone": x["SOLVER.LR_MULTIPLIER.backbone"],
            "language": x["SOLVER.LR_MULTIPLIER.lang_encoder"],
        },
        "trainer.schedule": lambda x: {"name": "multistep", "milestones": x["SOLVER.STEPS"], "factor": x["SOLVER.GAMMA"]},
        "trainer.warmup_steps": lambda x: x["SOLVER.WARMUP_ITERS"] if x["SOLVER.WARMUP_FACTOR"] < 1 else 0,
        "trainer.clip_norm": lambda x: x["SOLVER.CLIP_GRADIENTS.CLIP_VALUE"] if x["SOLVER.CLIP_GRADIENTS.ENABLED"] else None,
        "trainer.accumulation": "GRADIENT_ACCUMULATE_STEP",
        "trainer.precision": lambda x: "fp16" if x["FP16"] else "float32",
        "trainer.device": lambda x: "auto" if x["CUDA"] else "cpu",
        "trainer.log_every": "LOG_EVERY",
        "output": "SAVE_DIR",
    }


_FILTERED = "coco_2017_train_panoptic"


def _streams(x: PublishedSettings) -> list[dict[str, Any]]:
    """COCO's panoptic sets and the image-text pairs, as far as the catalog has them."""
    streams: list[dict[str, Any]] = []
    on: dict[Part, bool] = {"regions": x["MODEL.DECODER.MASK"] is not False, "references": x["MODEL.DECODER.GROUNDING.ENABLED"]}
    left_out = []
    for name in x["DATASETS.TRAIN"]:
        if name in CATALOG and find(name).packed:
            streams.append(
                {
                    "dataset": name,
                    "tasks": [task for task in names() if descriptor_of(task).look == "square"],
                    "batch_size": x["VLP.TRAIN.BATCH_SIZE_TOTAL"],
                    "transform": {"name": "stretch", "size": x["VLP.INPUT.IMAGE_SIZE"]},
                }
            )
            continue
        if name in CATALOG:
            spec, tasks = find(name), [task for task in names() if serves(find(name), task)]
        elif name.startswith(_FILTERED):
            # "…_filtall_with_sem_seg_caption_grounding" is our "…_filtall".
            variants = sorted((each for each in CATALOG if each.startswith(_FILTERED) and name.startswith(each)), key=len)
            spec, tasks = find(variants[-1]), [task for task in names() if on.get(descriptor_of(task).needs)]
        else:
            left_out.append(name)
            continue
        streams.append(
            {
                "dataset": spec.name,
                "tasks": tasks,
                "batch_size": x["COCO.TRAIN.BATCH_SIZE_TOTAL"],
                "max_phrases": x["MODEL.DECODER.GROUNDING.MAX_LEN"] - 1,  # the original draws fewer than it
                "transform": {
                    "name": "lsj",
                    "size": x["COCO.INPUT.IMAGE_SIZE"],
                    "min_scale": x["COCO.INPUT.MIN_SCALE"],
                    "max_scale": x["COCO.INPUT.MAX_SCALE"],
                },
            }
        )
    if left_out:
        x.remark(f"DATASETS.TRAIN: not in the catalog, left out: {', '.join(left_out)}")
    return streams


def _steps(x: PublishedSettings) -> int:
    """Epochs over the key set, as the original counts them: what does not fill a batch is dropped."""
    images = find("coco_2017_train_panoptic").count or 0
    return int(x["SOLVER.MAX_NUM_EPOCHS"] * max(images // x["COCO.TRAIN.BATCH_SIZE_TOTAL"], 1))


def _evaluations(x: PublishedSettings, processes: int, strict: bool) -> list[dict[str, Any]]:
    """Entries for the sets that the catalog has; the others are named, and refused if `strict`."""
    entries: list[dict[str, Any]] = []
    left_out = []
    for name in x["DATASETS.TEST"]:
        if name in _SETS:
            spec = find(_SETS[name][0])
            tasks = tuple(task for task in names() if descriptor_of(task).needs == _SETS[name][1])
        elif name in CATALOG:
            spec, tasks = find(name), tuple(task for task in names() if serves(find(name), task))
        else:
            left_out.append(name)
            continue
        entries += _entries(x, spec, tasks, name, processes)
    if left_out and (strict or not entries):
        raise ConfigError(
            f"{x.where}: DATASETS.TEST: unknown data set {left_out[0]!r}; known are {', '.join([*_SETS, *CATALOG])}"
        )
    if left_out:
        x.remark(f"DATASETS.TEST: not in the catalog, left out: {', '.join(left_out)}")
    return entries


def _entries(x: PublishedSettings, spec: DatasetSpec, tasks: Sequence[str], name: str, processes: int) -> list[dict[str, Any]]:
    """Masks are measured on whole pictures, texts on squares."""
    section = next((part.upper() for part in _SECTIONS if part in name), "COCO").replace("ADE", "ADE20K")
    sizes = {"size": x[f"{section}.INPUT.MIN_SIZE_TEST"], "max_size": x[f"{section}.INPUT.MAX_SIZE_TEST"]}
    masks = {task for task in names() if descriptor_of(task).needs in ("regions", "references")}
    texts = {task for task in names() if descriptor_of(task).look == "square"}
    kinds: Mapping[str, tuple[set[str], dict[str, Any]]] = {
        section: (masks, {"name": "shortest_edge", **sizes}),
        "VLP": (texts, {"name": "stretch", "size": x["VLP.INPUT.IMAGE_SIZE"]}),
    }
    return [
        {
            "dataset": spec.name,
            "tasks": [task for task in tasks if task in measured],
            "batch_size": max(x[f"{batches}.TEST.BATCH_SIZE_TOTAL"] // processes, 1),
            "transform": transform,
        }
        for batches, (measured, transform) in kinds.items()
        if measured & set(tasks)
    ]
