"""Handles, and what they keep out."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xdecoder.inference.predictor import Predictor
from xdecoder.serving.session import Limits, Session, held_bytes


def test_a_handle_stands_for_a_file(session: Session) -> None:
    assert session.open("photo.png") == "img_1" and session.open("other.png") == "img_2"
    assert session.picture("img_1") is session.picture("img_1"), "encoded once"
    session.close("img_1")
    with pytest.raises(ValueError, match="'img_1' is no picture of this session; known are: img_2"):
        session.picture("img_1")
    assert session.open("photo.png") == "img_3", "a handle never changes its meaning"
    assert session.root is not None and (session.root / "photo.png").is_file()


def test_files_outside_of_the_root_are_not_opened(session: Session, root: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes((root / "photo.png").read_bytes())
    (root / "link.png").symlink_to(secret)
    (root / "inner.png").symlink_to(root / "photo.png")
    for path in ("../secret.png", str(secret), "link.png", "nowhere.png", ".", "a" * 5000, "x\0.png"):
        with pytest.raises(ValueError, match="no such file below the server's root"):
            session.open(path)
    assert session.open("inner.png") == "img_1"
    with pytest.raises(ValueError, match="started without --root"):
        Session(session.predictor, session.folder).open("photo.png")


def test_a_picture_is_refused_before_its_pixels_are_read(session: Session, root: Path) -> None:
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    bomb = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + header + zlib.crc32(header).to_bytes(4, "big")
    (root / "bomb.png").write_bytes(bomb)
    (root / "notes.png").write_text("not a picture")
    (root / "drawing.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    for name in ("bomb.png", "notes.png", "drawing.eps"):
        with pytest.raises(ValueError, match="not a readable picture of at most 40000000 pixels; BMP, GIF"):
            session.open(name)
    with pytest.raises(ValueError, match="the uploaded data: not a readable picture"):
        session.upload(bomb)
    assert not session.entries and not list(session.folder.iterdir())


def test_uploads_lie_in_the_sessions_folder_until_it_is_full(predictor: Predictor, root: Path, tmp_path: Path) -> None:
    session = Session(predictor, tmp_path, limits=Limits(folder_bytes=20_000))
    data = (root / "photo.png").read_bytes()
    first = session.upload(data)
    assert [path.name for path in tmp_path.glob("*.png")] == ["img_1.png"]
    session.upload(data)
    with pytest.raises(ValueError, match=r"the session's folder is full \(\d+ of 20000 bytes\); close pictures"):
        session.upload(data)
    session.close(first)
    assert session.upload(data) == "img_3" and session.picture("img_2").image.size == (60, 40)


def test_there_is_a_most_of_pictures_and_masks(predictor: Predictor, root: Path, tmp_path: Path) -> None:
    session = Session(predictor, tmp_path, root, Limits(pictures=1, masks=2))
    handle = session.open("photo.png")
    with pytest.raises(ValueError, match="1 pictures open, which is the most"):
        session.open("photo.png")
    rng = np.random.default_rng(0)
    masks = [rng.random((40, 60)) > 0.5 for _ in range(3)]
    names = [session.add_mask(handle, mask) for mask in masks]
    assert names == ["img_1.mask_1", "img_1.mask_2", "img_1.mask_3"]
    assert (session.mask("img_1.mask_3") == masks[2]).all()
    with pytest.raises(ValueError, match=r"'img_1.mask_1' is no mask of img_1; known are: img_1.mask_2, img_1.mask_3"):
        session.mask("img_1.mask_1")


def test_memory_is_given_back(predictor: Predictor, root: Path, tmp_path: Path) -> None:
    session = Session(predictor, tmp_path, root, Limits(encoded_bytes=1))
    first, second = session.open("photo.png"), session.open("other.png")
    before = session.picture(first)
    scores = before.refer(["a star"]).scores
    assert held_bytes(before.views) > 1000
    session.picture(second)
    again = session.picture(first)
    assert again is not before, "it was forgotten"
    assert torch.equal(again.refer(["a star"]).scores, scores), "and encoded anew"


def test_tensors_are_counted_once() -> None:
    tensor = torch.zeros(10)
    assert held_bytes({"a": [tensor, tensor], "b": torch.nn.Linear(3, 3), "c": (tensor.double(),)}) == 40 + 80


def test_uploads_of_any_form_are_kept_as_they_look(session: Session) -> None:
    data = io.BytesIO()
    Image.new("RGB", (30, 20), (10, 200, 30)).save(data, "BMP")
    handle = session.upload(data.getvalue())
    assert np.asarray(session.picture(handle).image)[0, 0].tolist() == [10, 200, 30]
