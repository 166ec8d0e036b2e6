"""What the web page asks, without a page."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import answers
import numpy as np
import pytest
from answers import MAX_LENGTH, MAX_TEXTS, SHOWN_SIDE, Texts, open_upload
from PIL import Image

from tests.tiny import tiny_model
from xdecoder.inference.predictor import Predictor

TEXTS = Texts(
    things="cat, dog",
    stuff="sky",
    classes="cat, dog\nsky",
    phrases="the left cat\na dog",
    sentences="a cat\na dog\nno dog",
    threshold=0.0,
)


@pytest.fixture(scope="module")
def model() -> Predictor:
    return Predictor(tiny_model())


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize("task", [answers.panoptic, answers.semantic, answers.instances, answers.refer, answers.caption_region])
def test_regions_have_masks_labels_and_colours(task: answers.Ask, model: Predictor, picture: Image.Image) -> None:
    reply = task(model, picture, TEXTS)
    content = json.loads(reply.json)
    shown = [region for region in content["regions"] if region["area"]]
    labels = [label for _, label in reply.regions]
    assert len(labels) == len(set(labels)) == len(shown) > 0  # told apart by name, as the pointer must
    assert dict(reply.colours).keys() == set(labels) and all(len(colour) == 7 for _, colour in reply.colours)
    for (mask, _), region in zip(reply.regions, shown, strict=True):
        assert mask.shape == (48, 64) and int((mask > 0).sum()) == region["area"]
    assert reply.picture.size == (64, 48) and reply.drawing.mode == "RGB" and reply.overlay.mode == "RGBA"


def test_sentences(model: Predictor, picture: Image.Image) -> None:
    assert json.loads(answers.caption(model, picture, TEXTS).json).keys() == {"caption"}
    reply = answers.match(model, picture, TEXTS)
    shares = [share for _, share in reply.scores]
    assert sum(shares) == pytest.approx(1) and shares == sorted(shares, reverse=True) and reply.scores[0][0] in reply.headline
    found = answers.find(model, [picture, picture.rotate(180)], "a cat")
    content = json.loads(found.json)
    assert content["cosines"][content["best"] - 1] == max(content["cosines"]) and content["regions"][0]["name"] == "a cat"


def test_what_a_visitor_can_mend(model: Predictor, picture: Image.Image) -> None:
    for task, message in (
        (answers.panoptic, "at least one class name"),
        (answers.refer, "Write at least one phrase first"),
        (answers.match, "Write at least one sentence first"),
        (answers.answer, "Write a question first"),
    ):
        with pytest.raises(ValueError, match=message):
            task(model, picture, Texts())
    most = MAX_TEXTS["class name"]
    for classes in (", ".join(f"class {i}" for i in range(most + 1)), "x" * (MAX_LENGTH + 1)):
        with pytest.raises(ValueError, match=f"Ask about at most {most} texts at once"):
            answers.semantic(model, picture, Texts(classes=classes))


def test_uploads_come_upright_opaque_and_small(tmp_path: Path) -> None:
    rotated = Image.Exif()
    rotated[274] = 6  # the camera was held on its side
    Image.new("RGB", (2000, 1000), "red").save(tmp_path / "photo.jpg", exif=rotated)
    assert open_upload(tmp_path / "photo.jpg").size == (SHOWN_SIDE // 2, SHOWN_SIDE)
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert open_upload(tmp_path / "clear.png").getpixel((4, 4)) == (255, 255, 255)


def test_a_bomb_is_not_decoded(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 12_000, 12_000, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(ValueError, match="This file: too large a picture, 12000 × 12000; at most 100000000 pixels"):
        open_upload(tmp_path / "bomb.png")


@pytest.mark.parametrize("content", [b"text", b"", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_what_is_no_picture(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"^This file: the picture is damaged or incomplete, or in none of .*JPEG"):
        open_upload(tmp_path / "photo.jpg")
