"""Marking objects through the predictor, with tiny networks: what comes back, and what cannot be asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.tiny import tiny_model, tiny_seem
from xdecoder.inference.predictor import Predictor


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(tiny_seem())


@pytest.mark.parametrize("version", ["v0", "v1", "demo"])
def test_a_session(version: str, image: np.ndarray) -> None:
    session = Predictor(tiny_seem(version)).encode(image).interact()
    session.click(40, 20)
    session.click(100, 70, positive=False)
    session.new_object()
    session.box(60, 40, 110, 80)
    assert session.masks.shape == (2, 90, 120) and session.scores.shape == (2,)
    assert not session.masks[1, :38].any() and not session.masks[1, :, :58].any()
    assert [region["name"] for region in session.to_coco()] == ["object 1", "object 2"]


def test_two_sessions_say_the_same(predictor: Predictor, image: np.ndarray) -> None:
    found = []
    for _ in range(2):
        session = predictor.encode(image).interact()
        session.click(40, 20)
        session.masks  # noqa: B018, a round of its own
        session.stroke([(30, 30), (50, 40)])
        found.append(session.logits)
    assert torch.equal(*found)


def test_undone_and_done_again_is_the_same(predictor: Predictor, image: np.ndarray) -> None:
    session = predictor.encode(image).interact()
    session.click(40, 20)
    first = session.logits
    session.click(80, 60)
    second = session.logits
    session.undo()
    assert torch.equal(session.logits, first)
    session.click(80, 60)
    assert torch.equal(session.logits, second)


def test_an_image_is_encoded_once(predictor: Predictor, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded, encode = [], predictor.model.encode

    def counted(images: list[torch.Tensor]) -> object:
        encoded.append(images)
        return encode(images)

    monkeypatch.setattr(predictor.model, "encode", counted)
    picture = predictor.encode(image)
    for x in (10, 40, 70):
        session = picture.interact()
        session.click(x, 20)
        assert session.masks.shape == (1, 90, 120)
    picture.prompt([(10, 10)])
    assert len(encoded) == 1


def test_prompt_as_sams_users_know_it(predictor: Predictor, image: np.ndarray) -> None:
    picture = predictor.encode(image)
    masks, scores, logits = picture.prompt([(40, 20), (100, 70)], [1, 0])
    assert masks.shape == (1, 90, 120) and masks.dtype == torch.bool and scores.shape == (1,) and logits.dim() == 3
    again = picture.prompt([(40, 20), (100, 70), (60, 50)], [1, 0, 1], mask=logits)
    assert not torch.equal(again.logits, picture.prompt([(40, 20), (100, 70), (60, 50)], [1, 0, 1]).logits)
    boxed = picture.prompt(box=(60, 40, 110, 80))
    assert not boxed.masks[0, :38].any()


def test_find_like(predictor: Predictor, image: np.ndarray) -> None:
    mask = np.zeros((90, 120), dtype=bool)
    mask[20:40, 30:60] = True
    others = [image, image[:60, ::-1].copy()]
    found = predictor.find_like(image, mask, others)
    assert [tuple(region.masks.shape) for region in found] == [(1, 90, 120), (1, 60, 120)]
    assert all(-1 <= region.scores.item() <= 1 for region in found)


def test_a_phrase_beside_strokes(image: np.ndarray) -> None:
    picture = Predictor(tiny_seem("demo")).encode(image)
    silent, spoken = picture.interact(), picture.interact("the dog on the left")
    for session in (silent, spoken):
        session.click(40, 20)
    assert not torch.equal(silent.logits, spoken.logits)


WRONG = {
    "a point on the object or a box around it": lambda p, i: p.encode(i).prompt(),
    "each of 2 points needs a label": lambda p, i: p.encode(i).prompt([(1, 1), (2, 2)], [1]),
    "each of 1 points needs a label": lambda p, i: p.encode(i).prompt([(1, 1)], [2]),
    "must be positive": lambda p, i: p.encode(i).prompt([(1, 1)], [0]),
    "outside the image of 120 x 90 pixels": lambda p, i: p.encode(i).prompt([(120, 1)], [1]),
    "holds the logits of an earlier answer": lambda p, i: p.encode(i).prompt([(1, 1)], [1], mask=torch.zeros(5, 5)),
    "must hold a pixel of the picture": lambda p, i: p.find_like(i, np.zeros((90, 120)), [i]),
    "has the picture's size": lambda p, i: p.find_like(i, np.ones((9, 12)), [i]),
    'load a SEEM with version="demo"': lambda p, i: p.encode(i).interact("a dog"),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_one_sentence(sentence: str, predictor: Predictor, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=sentence):
        WRONG[sentence](predictor, image)


def test_a_network_that_reads_no_strokes(image: np.ndarray) -> None:
    predictor = Predictor(tiny_model())
    for ask in (lambda: predictor.encode(image).interact(), lambda: predictor.find_like(image, np.ones((90, 120)), [image])):
        with pytest.raises(ValueError, match="this network reads no strokes; SEEM does"):
            ask()
