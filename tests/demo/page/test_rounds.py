"""Pictures on which visitors mark objects, without a page."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from demo.page import board
from demo.page.rounds import MOST_OBJECTS, MOST_ROUNDS, Rounds
from tests.tiny import tiny_seem
from xdecoder.inference.predictor import Predictor


@pytest.fixture(scope="module")
def model() -> Predictor:
    return Predictor(tiny_seem())


def picture(model: Predictor) -> Any:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    return model.encode(Image.fromarray(pixels))


def test_rounds_are_those_of_a_session(model: Predictor) -> None:
    marked = Rounds().begin("one", "seem", picture(model))
    marked.mark("click", [[30.0, 20.0]], True, 1)
    marked.mark("brush", [[10.0, 10.0], [20.0, 12.0]], True, 5)
    marked.new_object()
    marked.mark("box", [[5.0, 5.0], [40.0, 30.0]], True, 1)
    expected = marked.picture.interact()
    expected.click(30, 20)
    expected.stroke([(10, 10), (20, 12)], width=5)
    expected.new_object()
    expected.box(5, 5, 40, 30)
    regions = marked.regions()
    assert [(region.mask == mask.numpy()).all() for region, mask in zip(regions, expected.masks, strict=True)] == [True, True]
    assert len({region.colour for region in regions}) == 2
    html = board.after(marked, regions)
    assert all(part in html for part in ("<circle", "<polyline", "<rect", 'data-object="1"'))
    assert "data:image/jpeg" not in html and "data:image/png" in html
    assert "data:image/jpeg" in board.fresh(marked), "the picture itself is sent once"
    marked.undo()
    marked.undo()
    assert len(marked.history[-1]) == 2 and len(marked.regions()) == 1
    marked.reset()
    assert marked.history == ((),) and marked.regions() == ()


def test_limits(model: Predictor) -> None:
    marked = Rounds().begin("one", "seem", picture(model))
    for number in range(MOST_OBJECTS):
        marked.mark("click", [[5.0 * number + 2, 20.0]], True, 1)
        if number < MOST_OBJECTS - 1:
            marked.new_object()
    with pytest.raises(ValueError, match=f"At most {MOST_OBJECTS} objects"):
        marked.new_object()
    with pytest.raises(ValueError, match=f"That were {MOST_ROUNDS} marks"):
        for _ in range(MOST_ROUNDS):
            marked.select(0)
    with pytest.raises(ValueError, match="there is nothing to undo"):
        for _ in range(MOST_ROUNDS + 1):
            marked.undo()


@pytest.mark.parametrize(
    "given",
    [
        ("teleport", [[1, 1]], True, 1),
        ("click", [], True, 1),
        ("click", [[1]], True, 1),
        ("click", [["a", 1]], True, 1),
        ("click", [[float("nan"), 1]], True, 1),
        ("click", "1,1", True, 1),
        ("click", [[1, 1]], "yes", 1),
        ("click", [[1, 1]], True, None),
        ("box", [[1, 1]], True, 1),
        (None, None, None, None),
    ],
)
def test_what_the_page_does_not_send_is_one_sentence_of_ours(model: Predictor, given: tuple[Any, ...]) -> None:
    marked = Rounds().begin("one", "seem", picture(model))
    with pytest.raises(ValueError, match="This is not what the page sends"):
        marked.mark(*given)
    assert len(marked.history) == 1


def test_visitors_have_their_own_and_the_idle_make_room(model: Predictor) -> None:
    rounds = Rounds(most=2)
    for visitor in ("one", "two"):
        rounds.begin(visitor, "seem", picture(model))
    rounds.of("one").mark("click", [[30.0, 20.0]], True, 1)
    rounds.begin("three", "seem", picture(model))
    assert len(rounds) == 2 and len(rounds.of("one").history) == 2
    with pytest.raises(ValueError, match="Choose a picture first"):
        rounds.of("two")
