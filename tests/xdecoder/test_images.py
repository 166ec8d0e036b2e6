from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xdecoder import images
from xdecoder.images import open_image, shorter_side

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def test_what_is_no_picture(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "photo.png")
    with pytest.raises(ValueError, match=r"nowhere\.png: no such picture"):
        open_image(tmp_path / "nowhere.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "photo.png").read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"half\.png: not a readable picture"):
        open_image(tmp_path / "half.png")
    (tmp_path / "text.jpg").write_text("not a picture")
    with pytest.raises(ValueError, match=r"text\.jpg: not a readable picture"):
        open_image(tmp_path / "text.jpg")
    with (tmp_path / "text.jpg").open("rb") as file, pytest.raises(ValueError, match=r"text\.jpg: not a readable picture"):
        open_image(file)
    with pytest.raises(ValueError, match="three channels of uint8, not float64"):
        open_image(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match=r"three channels of uint8, not uint8 of shape \(4, 4\)"):
        open_image(torch.zeros(4, 4, dtype=torch.uint8))


def test_too_large_a_picture_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "photo.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 2399)
    with pytest.raises(ValueError, match=r"photo\.png: too large a picture, 60 × 40; at most 2399 pixels"):
        open_image(tmp_path / "photo.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 2400)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)  # Pillow warns beyond this, and refuses twice as many
    assert open_image(tmp_path / "photo.png").size == (60, 40)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"photo\.png: not a readable picture"):
        open_image(tmp_path / "photo.png")


def test_a_picture_is_turned_as_the_camera_was_held(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(PIXELS).save(tmp_path / "photo.png", exif=exif)
    assert np.array_equal(np.asarray(open_image(tmp_path / "photo.png")), np.rot90(PIXELS, -1))


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    deep = (PIXELS[..., 0].astype(np.uint16) << 8) + 17
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.array_equal(np.asarray(open_image(tmp_path / "deep.png"))[..., 1], PIXELS[..., 0])


@pytest.mark.parametrize(
    ("size", "shown"),
    [((60, 40), (96, 64)), ((40, 60), (64, 96)), ((7, 7), (64, 64)), ((6400, 10), (256, 64)), ((1, 900), (64, 256))],
)
def test_the_shorter_side_counts(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert shorter_side(Image.new("RGB", size), 64).size == shown
