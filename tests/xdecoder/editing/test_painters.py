"""Fills, filters and the diffusion network, one by one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from xdecoder.editing import painters


def test_the_seam_is_soft_inwards_only() -> None:
    picture, mask = Image.new("RGB", (40, 30), "black"), np.zeros((30, 40), bool)
    mask[5:25, 10:30] = True
    result = np.asarray(painters.compose(picture, Image.new("RGB", (40, 30), "white"), mask))[..., 0]
    assert (result[~mask] == 0).all() and result[15, 20] == 255 and 0 < result[15, 10] < 255
    assert (np.asarray(painters.compose(picture, Image.new("RGB", (40, 30), "white"), mask, seam=0))[mask] == 255).all()


def test_a_mask_grows_with_the_picture() -> None:
    mask = np.zeros((100, 200), bool)
    mask[50, 100] = True
    assert painters.grown(mask, 0.012).any(axis=0).sum() == 2 * 2 + 1
    assert painters.grown(mask, 0.0).any(axis=0).sum() == 3, "by a pixel at least"


def test_a_new_colour_keeps_light_and_shade() -> None:
    ramp = np.repeat(np.linspace(60, 180, 40).astype(np.uint8)[None, :, None], 3, axis=2).repeat(10, axis=0)
    mask = np.ones((10, 40), bool)
    blue = np.asarray(painters.recolour(Image.fromarray(ramp), mask, (45, 95, 205))).astype(int)
    assert (np.diff(blue[0, :, 2]) >= 0).all() and blue[0, -1, 2] > 1.5 * blue[0, 0, 2]
    assert np.abs(blue.mean(axis=(0, 1)) - (45, 95, 200)).max() < 8


def test_a_diffusion_network_paints_at_its_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def pipeline(**settings: Any) -> Any:
        asked.update(settings)
        return type("Output", (), {"images": [Image.new("RGB", settings["image"].size, "lime")]})

    painter = painters.DiffusionInpainter(pipeline, num_inference_steps=2)
    painted = painter(Image.new("RGB", (100, 60)), np.ones((60, 100), bool), "a vase")
    assert painted.size == (100, 60) and np.asarray(painted)[0, 0].tolist() == [0, 255, 0]
    assert (asked["width"], asked["height"], asked["prompt"]) == (512, 320, "a vase")
    assert asked["mask_image"].size == asked["image"].size == (512, 320) and asked["num_inference_steps"] == 2


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ValueError, match=r"needs the package diffusers: pip install '\.\[edit\]'"):
        painters.load_inpainter("anything")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ValueError, match=r"needs the package OpenCV: pip install '\.\[edit\]'"):
        painters.fill(Image.new("RGB", (8, 8)), np.ones((8, 8), bool))


@pytest.mark.filterwarnings("ignore")  # diffusers and transformers warn of each other's changes
def test_a_folder_that_holds_no_network_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("diffusers", reason="painting something new needs diffusers (pip install '.[edit]')")
    with pytest.raises(ValueError, match="no in-painting network of diffusers' form with safetensors") as caught:
        painters.load_inpainter(str(tmp_path))
    assert "\n" not in str(caught.value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    nowhere = r"someone/painter: no such folder, and the Hugging Face Hub gave no .* name its folder with --inpainter"
    with pytest.raises(ValueError, match=nowhere):
        painters.load_inpainter("someone/painter")
