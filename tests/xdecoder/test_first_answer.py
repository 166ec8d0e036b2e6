"""The first answer waits for nothing that it does not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.tiny import tiny_model
from xdecoder import checkpoint

SLOW_TO_IMPORT = ("scipy", "timm", "open_clip", "torchvision", "transformers", "cv2", "huggingface_hub")


@pytest.mark.slow
def test_slow_packages_stay_outside(tmp_path: Path, root: Path) -> None:
    checkpoint.save(tiny_model(), tmp_path / "model.pt")
    Image.new("RGB", (64, 48), "brown").save(tmp_path / "photo.png")
    network, photo = str(tmp_path / "model.pt"), str(tmp_path / "photo.png")
    script = (
        "import sys, xdecoder; from xdecoder.inference.results import Panoptic\n"
        f"answer = xdecoder.load({network!r}).panoptic({photo!r}, ['cup'], ['table'])\n"
        f"assert isinstance(answer, Panoptic); print(*(name for name in {SLOW_TO_IMPORT} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
