"""Every committed experiment can be read and built."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainer.experiment import ExperimentConfig
from xdecoder.config import load
from xdecoder.model import XDecoder
from xdecoder.published.architectures import ARCHITECTURES

CONFIGS = sorted((Path(__file__).resolve().parent.parent / "configs").rglob("*.yaml"))
PUBLISHED = {
    "focalt": "focal_t",
    "focall": "focal_l",
    "davitd3": "davit_d3",
    "davitd3_deform": "davit_d3_deformable",
    "davitd5": "davit_d5",
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_config_builds(path: Path) -> None:
    config = load(ExperimentConfig, path)
    with torch.device("meta"):
        XDecoder(config.model)
    for entry in (*config.data.train, *config.data.evaluate):
        assert [task.name for task in config.tasks.build(entry.tasks)] == list(entry.tasks)
    assert config.data.evaluate


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_one_config_per_published_network(root: Path, name: str) -> None:
    model = load(ExperimentConfig, root / f"configs/xdecoder/{PUBLISHED[name]}.yaml").model
    assert model.published_quirks
    for part, settings in ARCHITECTURES[name].items():
        given = getattr(model, part).model_dump(mode="json")
        assert {key: given[key] for key in settings} == settings


def test_the_published_command_has_its_file(root: Path) -> None:
    evaluated = load(ExperimentConfig, root / "configs/xdecoder/svlp_focalt_lang.yaml")
    assert evaluated.model == load(ExperimentConfig, root / "configs/xdecoder/focal_t.yaml").model
    assert [entry.dataset for entry in evaluated.data.evaluate] == ["coco_2017_val_panoptic"]
