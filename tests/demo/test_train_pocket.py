"""From a trained network to the file in the package: the parts that need no training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import xdecoder
from tests.tiny import tiny_model
from trainer.evaluation.results import read
from trainer.experiment import ExperimentConfig
from trainer.protocol import protocol_of
from xdecoder import checkpoint
from xdecoder.config import ConfigError, load
from xdecoder.files import write_json


@pytest.fixture
def trained(tmp_path: Path, root: Path) -> ExperimentConfig:
    """A run folder as training leaves it, with a tiny network in it."""
    config = load(ExperimentConfig, root / "configs/pocket/photographs.yaml", [f"output={tmp_path / 'run'}"])
    model = tiny_model()
    model.protocol = protocol_of(config.tasks, config.data)
    config.output.mkdir()
    checkpoint.save(model, config.model_file, origin={"steps": 3})
    return config


def test_the_small_file_is_asked_as_it_was_fitted(trained: ExperimentConfig) -> None:
    import train_pocket

    path = train_pocket.write_small(trained, 0.35, trained.model_file)
    content = checkpoint.read(path)
    assert content["origin"] == {"steps": 3} and path.stat().st_size < 0.6 * trained.model_file.stat().st_size
    assert {value.dtype for value in content["model"].values() if value.is_floating_point()} == {torch.float16}
    predictor = xdecoder.load(path)
    assert predictor.tasks.segmentation.postprocessing.object_threshold == 0.35
    assert predictor.tasks.segmentation.templates == "clean" and predictor.tasks.captioning.beams == 3
    assert next(predictor.model.parameters()).dtype == torch.float32
    assert read(trained.output)["megabytes"] == pytest.approx(path.stat().st_size / 1e6)


def test_a_file_that_is_too_large_is_refused(trained: ExperimentConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    import train_pocket

    monkeypatch.setattr(train_pocket, "MOST_BYTES", 1000)
    with pytest.raises(ConfigError, match=r"MB, more than the 0 MB that the package may carry"):
        train_pocket.write_small(trained, 0.35, trained.model_file)


def test_the_best_threshold_is_taken(trained: ExperimentConfig) -> None:
    import train_pocket

    write_json(trained.output / "threshold.json", {"0.1": 2.0, "0.3": 5.0, "0.5": 4.0})
    assert train_pocket.fitted(trained) == 0.3
    assert read(trained.output)["threshold/coco_more_val_PQ_things"] == 5.0


def test_the_card_says_what_was_measured(trained: ExperimentConfig) -> None:
    import train_pocket

    path = train_pocket.write_small(trained, 0.35, trained.model_file)
    figures: dict[str, Any] = {
        "flickr8k_test/IR@1": 12.345,
        "coco_kit_val/PQ": None,
        "threshold": 0.35,
        "seconds/train": 6000.0,
        "seconds/words": 600.0,
    }
    card = train_pocket.model_card(trained, path, figures)
    assert "| flickr8k_test/IR@1 | 12.35 |" in card or "| flickr8k_test/IR@1 | 12.34 |" in card
    assert "110 minutes" in card and "0.35, was fitted on `coco_more_val`" in card and "coco_kit_val/PQ" not in card
    assert "| `coco_mval_kit_train` | segmentation, referring, captioning, retrieval |" in card
    assert "seconds" not in card and "{" not in card
