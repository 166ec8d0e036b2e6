"""SED's own files and command lines, read as they are."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from trainer.commands import _read, experiment_parser
from trainer.experiment import ExperimentConfig
from trainer.published_sed import parse_line, read
from xdecoder.config import ConfigError
from xdecoder.sed.model import FINETUNING, SedConfig

YAML = """\
MODEL:
  META_ARCHITECTURE: SED
  SEM_SEG_HEAD:
    CLIP_PRETRAINED: {clip}
    TRAIN_CLASS_JSON: datasets/coco.json
    POOLING_SIZES: [2, 2]
    ATTENTION_TYPE: linear
  PROMPT_ENSEMBLE_TYPE: imagenet
DATASETS:
  TRAIN: ("coco_2017_train_stuff_all_sem_seg",)
  TEST: ("coco_2017_test_stuff_all_sem_seg",)
SOLVER: {{BASE_LR: 0.0002, MAX_ITER: 80000, CLIP_MULTIPLIER: 0.01}}
INPUT: {{MIN_SIZE_TEST: 640, CROP: {{SIZE: [768, 768]}}}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "convnextL_768.yaml"
    path.write_text(YAML.format(clip="Convnext-L"))
    return path


def from_line(file: Path, *words: str) -> tuple[ExperimentConfig, str | None]:
    return read(parse_line(["--config-file", str(file), *words]), "data")


def test_training(file: Path) -> None:
    config, weights = from_line(file, "--num-gpus", "4", "--dist-url", "auto", "--resume", "OUTPUT_DIR", "out")
    assert weights is None and config.output == Path("out") and isinstance(config.model, SedConfig)
    assert config.model.clip.model == "convnext_large_d_320" and config.model.clip.drop_path == 0.1
    assert config.model.decoder.training_pooling == (2, 2, 2) and config.model.decoder.pooling == (1, 1, 1)
    assert config.trainer.learning_rate == 2e-4 and config.trainer.lr_multipliers == {"clip": 0.01}
    assert config.trainer.freeze == () and config.trainer.clip_norm == 0.01
    assert [stream.dataset for stream in config.data.train] == ["coco_stuff_171_train"]


def test_measuring_with_early_rejection(file: Path) -> None:
    words = ["--eval-only", "OUTPUT_DIR", "out/eval", "MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON", "datasets/ade847.json"]
    words += ["DATASETS.TEST", '("ade20k_full_sem_seg_freq_val_all",)', "TEST.SLIDING_WINDOW", "True"]
    words += ["MODEL.SEM_SEG_HEAD.POOLING_SIZES", "[1,1]", "MODEL.WEIGHTS", "sed_L.pth"]
    config, weights = from_line(file, *words, "TEST.FAST_INFERENCE", "True", "TEST.TOPK", "8")
    assert weights == "sed_L.pth" and isinstance(config.model, SedConfig)
    assert config.model.decoder.pooling == (1, 1, 1)
    assert config.tasks.segmentation.early_rejection is not None and config.tasks.segmentation.early_rejection.keep == 8
    assert [entry.dataset for entry in config.data.evaluate] == ["ade20k_full_sem_seg_val"] and not config.data.train


def test_policies(file: Path) -> None:
    for policy, freeze in (*FINETUNING.items(), ("prompt", ("clip",))):
        config, _ = from_line(file, "MODEL.SEM_SEG_HEAD.CLIP_FINETUNE", policy)
        assert config.trainer.freeze == tuple(freeze)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("OUTPUT_DIR",), "'OUTPUT_DIR' has no partner"),
        (("OUTPUT_DIRECTORY", "x"), "override OUTPUT_DIRECTORY: unknown key; did you mean 'OUTPUT_DIR'"),
        (("MODEL.SEM_SEG_HEAD.CNEXT_TYPE", "V2"), "CNEXT_TYPE is 'V2'; only 'V1' is supported here"),
        (("MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED", "ViT-B/16"), "CLIP_PRETRAINED is 'ViT-B/16'; known are Convnext-B, Convnext-L"),
        (("DATASETS.TEST", '("lvis",)'), "unknown data set 'lvis'; known are coco_2017"),
        (("TEST.FAST_INFERENCE", "True", "TEST.TOPK", "0"), "tasks.segmentation.early_rejection.keep"),
    ],
)
def test_what_cannot_be_followed(file: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_line(file, *words)


def test_the_scripts_take_their_own_lines(file: Path) -> None:
    parser = experiment_parser("train")
    config, options = _read(parser, ["--config", str(file), "MODEL.WEIGHTS", "start.pth"], {})
    assert config.weights == "start.pth" and isinstance(options, argparse.Namespace)
    with pytest.raises(ConfigError, match=r"this line measures; use eval\.py"):
        _read(parser, ["--config", str(file), "--eval-only"], {})
