from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from xdecoder import images
from xdecoder.images import open_image, read_header, shorter_side

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def test_what_is_no_picture(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "photo.png")
    with pytest.raises(ValueError, match=r"nowhere\.png: no such picture"):
        open_image(tmp_path / "nowhere.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "photo.png").read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"half\.png: the picture is damaged or incomplete"):
        open_image(tmp_path / "half.png")
    (tmp_path / "text.jpg").write_text("not a picture")
    with pytest.raises(ValueError, match=r"text\.jpg: the picture is damaged or incomplete"):
        open_image(tmp_path / "text.jpg")
    with (
        (tmp_path / "text.jpg").open("rb") as file,
        pytest.raises(ValueError, match=r"text\.jpg: the picture is damaged or incomplete"),
    ):
        open_image(file)
    with pytest.raises(ValueError, match="uint8, or floats within 0…1, not float64"):
        open_image(np.full((4, 4, 3), 200.0))
    with pytest.raises(ValueError, match=r"one, three or four channels, not the shape \(4, 4, 2\)"):
        open_image(torch.zeros(2, 4, 4, dtype=torch.uint8))


def test_arrays_and_tensors_of_every_kind_show_the_same() -> None:
    wanted = np.asarray(open_image(PIXELS))
    opaque = np.dstack((PIXELS, np.full(PIXELS.shape[:2], 255, np.uint8)))
    for image in (
        torch.from_numpy(PIXELS).permute(2, 0, 1),
        PIXELS / 255,
        torch.from_numpy(PIXELS / 255).permute(2, 0, 1),
        opaque,
    ):
        assert np.array_equal(np.asarray(open_image(image)), wanted)
    grey = PIXELS[..., 0]
    for image in (grey, grey[..., None], torch.from_numpy(grey)[None]):
        assert np.array_equal(np.asarray(open_image(image)), grey[..., None].repeat(3, axis=2))
    assert len(images.images_in(PIXELS[None].repeat(4, axis=0)) or ()) == 4 and images.images_in(PIXELS) is None


def test_too_large_a_picture_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "photo.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 2399)
    with pytest.raises(ValueError, match=r"photo\.png: too large a picture, 60 × 40; at most 2399 pixels"):
        open_image(tmp_path / "photo.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 2400)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)  # Pillow warns beyond this, and refuses twice as many
    assert open_image(tmp_path / "photo.png").size == (60, 40)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"photo\.png: the picture is too large"):
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


def test_every_mode_is_read_by_one_rule(tmp_path: Path) -> None:
    grey = PIXELS[..., 0]
    written = {
        "grey.png": (Image.fromarray(grey), np.repeat(grey[..., None], 3, axis=2)),
        "bits.png": (Image.fromarray(grey > 99), np.repeat(np.where(grey > 99, 255, 0)[..., None], 3, axis=2)),
        "palette.png": (Image.fromarray(grey // 32).convert("P"), np.repeat(grey[..., None] // 32, 3, axis=2)),
        "deep.pgm": (Image.fromarray(grey.astype(np.uint16) * 256), np.repeat(grey[..., None], 3, axis=2)),
        "deep.tif": (Image.fromarray(grey.astype(np.int32) * 256), np.repeat(grey[..., None], 3, axis=2)),
        "inks.tif": (Image.new("CMYK", (4, 3), (0, 255, 255, 0)), np.full((3, 4, 3), (255, 0, 0))),
    }
    for name, (picture, expected) in written.items():
        picture.save(tmp_path / name)
        assert np.array_equal(np.asarray(open_image(tmp_path / name)), expected), name


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    layers = np.dstack((PIXELS, np.where(PIXELS[..., 0] > 99, 255, 0).astype(np.uint8)))
    Image.fromarray(layers).save(tmp_path / "photo.png")
    assert np.array_equal(np.asarray(open_image(tmp_path / "photo.png")), np.where(layers[..., 3:] > 0, PIXELS, 255))


def test_a_picture_of_fractions_is_refused(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[..., 0].astype(np.float32)).save(tmp_path / "heights.tif")
    with pytest.raises(ValueError, match=r"heights\.tif: holds floating-point values"):
        open_image(tmp_path / "heights.tif")
    Image.fromarray(PIXELS[..., 0].astype(np.int32) - 200).save(tmp_path / "depths.tif")
    with pytest.raises(ValueError, match=r"depths\.tif: holds values from -\d+ to \d+; a picture has 8 or 16 bits"):
        open_image(tmp_path / "depths.tif")


def test_the_orientation_is_found_wherever_it_stands(tmp_path: Path) -> None:
    for suffix in ("jpg", "png", "webp", "tif"):
        for turn in range(1, 9):
            exif = Image.Exif()
            exif[0x0112] = turn
            path = tmp_path / f"{turn}.{suffix}"
            Image.fromarray(PIXELS).save(path, exif=exif)
            header = read_header(path)
            assert header.upright == ((40, 60) if turn > 4 else (60, 40))
            assert header == (60, 40, turn) or suffix == "tif", "Pillow turns TIFFs itself"
            picture = open_image(path)
            with Image.open(path) as stored:
                assert picture.tobytes() == ImageOps.exif_transpose(stored).convert("RGB").tobytes(), path.name
            assert open_image(picture).tobytes() == picture.tobytes(), "turned once"


def test_only_ordinary_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=r"pipe\.png: is a pipe, a socket or a device, not a picture"):
        open_image(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match="is a folder, not a picture"):
        open_image(tmp_path)
    with pytest.raises(ValueError, match=r"the picture cannot be reached \(embedded null byte\)"):
        open_image("a\0b.png")
    for wrong in (None, b"photo", 7):
        with pytest.raises(ValueError, match="a picture is a path, an open file, an image, an array or a tensor, not"):
            open_image(wrong)  # type: ignore[arg-type]


def test_no_other_program_is_asked_to_read(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(ValueError, match="in none of the formats BMP, GIF, JPEG"):
        open_image(tmp_path / "photo.png")
