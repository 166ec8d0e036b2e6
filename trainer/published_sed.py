"""SED's experiments told in its own way: `--config-file FILE [--eval-only] KEY VALUE …`, and the file that goes with it."""

from __future__ import annotations

import argparse
import ast
import difflib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.experiment import ExperimentConfig
from xdecoder.config import ConfigError, parse, parse_yaml, read_yaml
from xdecoder.published.configs import leaves
from xdecoder.sed.model import FINETUNING

logger = logging.getLogger(__name__)

_HEAD = "MODEL.SEM_SEG_HEAD."
_CLIPS: Mapping[str, dict[str, Any]] = {
    "Convnext-B": {"model": "convnext_base_w_320", "weights": "laion_aesthetic_s13b_b82k"},
    "Convnext-L": {
        "model": "convnext_large_d_320",
        "weights": "laion2b_s29b_b131k_ft_soup",
        "dropout": 0.1,
        "drop_path": 0.1,
    },
}
_SETS = {
    "coco_2017_train_stuff_all_sem_seg": "coco_stuff_171_train",
    "coco_2017_test_stuff_all_sem_seg": "coco_stuff_171_val",
    "ade20k_150_test_sem_seg": "ade20k_sem_seg_val",
    "ade20k_full_sem_seg_freq_val_all": "ade20k_full_sem_seg_val",
    "context_59_test_sem_seg": "context_59_val_seg",
    "context_459_test_sem_seg": "context_459_val_seg",
    "voc_2012_test_sem_seg": "voc_20_val_seg",
    "voc_2012_test_background_sem_seg": "voc_20b_val_seg",
}
"""Published names of sets and ours; a set's classes are its own, so class files are not read."""

_TEMPLATES = {"imagenet": "imagenet", "single": "single"}
KEYS: Mapping[str, Any] = {
    _HEAD + "CLIP_PRETRAINED": "Convnext-B",
    _HEAD + "CLIP_FINETUNE": "full",
    _HEAD + "DECODER_DIMS": [64, 32, 16],
    _HEAD + "DECODER_GUIDANCE_PROJ_DIMS": [32, 16, 8],
    _HEAD + "HIDDEN_DIMS": 128,
    _HEAD + "NUM_HEADS": 4,
    _HEAD + "POOLING_SIZES": [2, 2],
    _HEAD + "KERNEL_SIZE": [9, 9, 9],
    "MODEL.PROMPT_ENSEMBLE_TYPE": "imagenet",
    "MODEL.WEIGHTS": "",
    "DATASETS.TRAIN": ["coco_2017_train_stuff_all_sem_seg"],
    "DATASETS.TEST": ["ade20k_150_test_sem_seg"],
    "SOLVER.BASE_LR": 2e-4,
    "SOLVER.WEIGHT_DECAY": 1e-4,
    "SOLVER.CLIP_MULTIPLIER": 0.01,
    "SOLVER.MAX_ITER": 80_000,
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 0.01,
    "SOLVER.CHECKPOINT_PERIOD": 5000,
    "INPUT.MIN_SIZE_TEST": 640,
    "INPUT.MAX_SIZE_TEST": 2560,
    "INPUT.MIN_SIZE_TRAIN": 768,
    "INPUT.CROP.SIZE": [768, 768],
    "TEST.FAST_INFERENCE": False,
    "TEST.TOPK": 1,
    "TEST.EVAL_PERIOD": 10_000,
    "OUTPUT_DIR": "output",
    "SEED": 0,
    "DATALOADER.NUM_WORKERS": 4,
}
"""What has an effect here, with SED-B's values."""

_ONLY: Mapping[str, Any] = {
    _HEAD + "ATTENTION_TYPE": "linear",
    _HEAD + "CNEXT_TYPE": "V1",
    _HEAD + "TEXT_GUIDANCE_DIM": 0,
    "MODEL.META_ARCHITECTURE": "SED",
}
"""Keys of which only one value was published, and is supported."""


@dataclass(frozen=True)
class Line:
    """What stands on a line of SED's."""

    file: str
    measures: bool  # --eval-only
    overrides: tuple[str, ...]
    rest: tuple[str, ...]  # arguments that are not SED's


def is_published(arguments: Sequence[str]) -> bool:
    """Whether the arguments are in SED's grammar."""
    return any(argument.partition("=")[0] in ("--config-file", "--config") for argument in arguments)


def parse_line(arguments: Sequence[str]) -> Line:
    """Read a line of SED's grammar; raises ConfigError for one without a file or with an unpaired override."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-file", "--config", dest="file")
    parser.add_argument("--eval-only", action="store_true")
    parser.add_argument("--resume", action="store_true")  # training goes on by itself here
    for ignored in ("--num-gpus", "--num-machines", "--machine-rank", "--dist-url"):
        parser.add_argument(ignored)  # torchrun says here how many processes there are
    options, others = parser.parse_known_args(list(arguments))
    rest = [word for i, word in enumerate(others) if word.startswith("--") or (i and others[i - 1].startswith("--"))]
    words = [word for i, word in enumerate(others) if not (word.startswith("--") or (i and others[i - 1].startswith("--")))]
    if not options.file:
        raise ConfigError("--config-file: expected a YAML file")
    if len(words) % 2:
        raise ConfigError(f"expected pairs of key and value behind the options, but {words[-1]!r} has no partner")
    return Line(options.file, options.eval_only, tuple(words), tuple(rest))


def read(line: Line, root: str | None = None) -> tuple[ExperimentConfig, str | None]:
    """The experiment, and the network that the line names to measure or to start from.

    Args:
        root: where the data lie, if the surroundings say so.

    Raises:
        ConfigError: in one sentence, for a file or an override that cannot be followed.
    """
    found = {key: _value(value) for key, value in leaves(read_yaml(line.file))}
    for key, text in zip(line.overrides[::2], line.overrides[1::2], strict=True):
        if key not in KEYS and key not in _ONLY and key not in found and not _is_idle(key):
            close = difflib.get_close_matches(key, [*KEYS, *_ONLY, *found], n=1)
            raise ConfigError(f"override {key}: unknown key" + (f"; did you mean {close[0]!r}?" if close else ""))
        found[key] = _value(parse_yaml(text, f"override {key}"))
    for key, only in _ONLY.items():
        if found.get(key, only) != only:
            raise ConfigError(f"{line.file}: {key} is {found[key]!r}; only {only!r} is supported here")
    idle = [key for key in found if key not in KEYS and key not in _ONLY and key in line.overrides[::2]]
    if idle:
        logger.warning("no effect here: %s", ", ".join(idle))
    settings = {**KEYS, **{key: value for key, value in found.items() if key in KEYS}}
    experiment = _experiment(settings, line)
    experiment["data"] |= {"root": root} if root else {}
    return parse(ExperimentConfig, experiment, line.file), settings["MODEL.WEIGHTS"] or None


def _is_idle(key: str) -> bool:
    """Keys that SED's own settings have without using them, and class files, which the catalog's sets bring along."""
    return key.startswith(("MODEL.", "TEST.", "DATALOADER.", "SOLVER.", "INPUT.", "SWIN.", "CUDNN", "VERSION"))


def _value(value: Any) -> Any:
    """Python's tuples, which YAML takes for texts, as lists."""
    if isinstance(value, str) and value[:1] in "([" and value[:1]:
        try:
            return list(ast.literal_eval(value))
        except (ValueError, SyntaxError, TypeError):
            return value
    return value


def _experiment(x: Mapping[str, Any], line: Line) -> dict[str, Any]:
    policy = FINETUNING.get(x[_HEAD + "CLIP_FINETUNE"], FINETUNING["attention"])  # as published: all others train no CLIP
    return {
        "model": _model(x, line),
        "tasks": {"segmentation": {"early_rejection": {"keep": x["TEST.TOPK"]} if x["TEST.FAST_INFERENCE"] else None}},
        "data": {
            "train": [] if line.measures else [_stream(name, x, line.file) for name in x["DATASETS.TRAIN"]],
            "evaluate": [_entry(name, x, line.file) for name in x["DATASETS.TEST"]],
            "workers": x["DATALOADER.NUM_WORKERS"],
        },
        "trainer": {
            "steps": x["SOLVER.MAX_ITER"],
            "learning_rate": x["SOLVER.BASE_LR"],
            "weight_decay": x["SOLVER.WEIGHT_DECAY"],
            "lr_multipliers": {"clip": x["SOLVER.CLIP_MULTIPLIER"]},
            "freeze": list(policy),
            "schedule": {"name": "cosine"},
            "warmup_steps": x["SOLVER.WARMUP_ITERS"],
            "clip_norm": x["SOLVER.CLIP_GRADIENTS.CLIP_VALUE"],
            "precision": "float32",
            "save_every": x["SOLVER.CHECKPOINT_PERIOD"],
            "evaluate_every": x["TEST.EVAL_PERIOD"] or None,
        },
        "output": x["OUTPUT_DIR"],
        "seed": max(x["SEED"], 0),
    }


def _model(x: Mapping[str, Any], line: Line) -> dict[str, Any]:
    kind, sentences = x[_HEAD + "CLIP_PRETRAINED"], x["MODEL.PROMPT_ENSEMBLE_TYPE"]
    if kind not in _CLIPS:
        raise ConfigError(f"{line.file}: {_HEAD}CLIP_PRETRAINED is {kind!r}; known are {', '.join(_CLIPS)}")
    if sentences not in _TEMPLATES:
        raise ConfigError(f"{line.file}: MODEL.PROMPT_ENSEMBLE_TYPE is {sentences!r}; known are {', '.join(_TEMPLATES)}")
    pooling = x[_HEAD + "POOLING_SIZES"][0]
    kernels = x[_HEAD + "KERNEL_SIZE"]
    return {
        "name": "sed",
        "clip": _CLIPS[kind],
        "templates": sentences,
        "image_size": x["INPUT.MIN_SIZE_TEST"],
        "decoder": {
            "width": x[_HEAD + "HIDDEN_DIMS"],
            "widths": x[_HEAD + "DECODER_DIMS"],
            "skip_widths": x[_HEAD + "DECODER_GUIDANCE_PROJ_DIMS"],
            "heads": x[_HEAD + "NUM_HEADS"],
            "kernel": kernels[0] if isinstance(kernels, list) else kernels,
            # One key says both in the original: what a line that measures says is for measuring.
            **({"pooling": [pooling] * 3} if line.measures else {"training_pooling": [pooling] * 3}),
        },
    }


def _set(name: str, file: str) -> str:
    if name not in _SETS:
        raise ConfigError(f"{file}: unknown data set {name!r}; known are {', '.join(_SETS)}")
    return _SETS[name]


def _stream(name: str, x: Mapping[str, Any], file: str) -> dict[str, Any]:
    side = x["INPUT.MIN_SIZE_TRAIN"]
    crop = {"size": x["INPUT.CROP.SIZE"], "shorter_side": side[0] if isinstance(side, list) else side}
    return {
        "dataset": _set(name, file),
        "tasks": ["segmentation"],
        "batch_size": x["SOLVER.IMS_PER_BATCH"],
        "transform": {"name": "crop", **crop, "min_scale": 1.0, "max_scale": 1.0, "colour": 0.3},
    }


def _entry(name: str, x: Mapping[str, Any], file: str) -> dict[str, Any]:
    sizes = {"size": x["INPUT.MIN_SIZE_TEST"], "max_size": x["INPUT.MAX_SIZE_TEST"]}
    return {"dataset": _set(name, file), "tasks": ["segmentation"], "transform": {"name": "shortest_edge", **sizes}}
