from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import xdecoder
from tests.tiny import tiny_model
from xdecoder import checkpoint
from xdecoder.predictor import Predictor, read_picture


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(tiny_model())


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_the_readmes_lines(tmp_path: Path, photo: Path) -> None:
    checkpoint.save(tiny_model(), tmp_path / "model.pt")
    model = xdecoder.load(tmp_path / "model.pt")
    scene = model.segment(photo, things=["star", "cube"], stuff=["grass"])
    assert scene.result.semantic.shape == (40, 60) and int(scene.result.semantic.max()) <= 2
    for kind in ("panoptic", "semantic", "instances"):
        assert scene.draw(kind).size[0] >= 60
    found = model.refer(photo, ["the star", "the cube on the left"])
    assert found.result.masks.shape == (2, 40, 60)
    assert found.draw().mode == "RGB"
    assert isinstance(model.caption(photo), str)
    similar = model.match(photo, ["a star", "two cubes", "a star"])
    assert similar.shape == (3,) and similar[0] == similar[2] != similar[1]
    assert similar.abs().max() <= 1


def test_every_form_of_a_picture_gives_the_same(predictor: Predictor, photo: Path) -> None:
    image = Image.open(photo)
    array = np.asarray(image)
    forms = [photo, str(photo), image, array, torch.from_numpy(array.copy()).permute(2, 0, 1)]
    maps = [predictor.segment(form, ["star", "cube"]).result.semantic for form in forms]
    assert all(torch.equal(maps[0], other) for other in maps)


def test_what_cannot_be_asked(predictor: Predictor, photo: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="segment needs at least one class name"):
        predictor.segment(photo, [])
    with pytest.raises(ValueError, match="'star' stands more than once"):
        predictor.segment(photo, ["star"], stuff=["star"])
    with pytest.raises(ValueError, match="cannot draw 'edges'; choose panoptic"):
        predictor.segment(photo, ["star"]).draw("edges")
    with pytest.raises(ValueError, match=r"nowhere\.png: no such picture"):
        read_picture(tmp_path / "nowhere.png")
    (tmp_path / "half.png").write_bytes(photo.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"half\.png: not a readable picture"):
        read_picture(tmp_path / "half.png")
    (tmp_path / "text.jpg").write_text("not a picture")
    with pytest.raises(ValueError, match=r"text\.jpg: not a readable picture"):
        read_picture(tmp_path / "text.jpg")
    with pytest.raises(ValueError, match="three channels of uint8, not float64"):
        read_picture(np.zeros((4, 4, 3)))
