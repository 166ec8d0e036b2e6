"""A session with a stand-in for the network, which fills discs around what is marked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from xdecoder.files import read_json
from xdecoder.inference.session import MAX_POINTS, Canvas, Session
from xdecoder.types import StrokeMaps


class Network:
    """Discs around marks at a quarter of the input's size; negative ones take away. It remembers how it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[StrokeMaps, Tensor | None]] = []

    def __call__(self, strokes: StrokeMaps, before: Tensor | None) -> Tensor:
        self.asked.append((strokes, before))
        positive, negative = (F.max_pool2d(x.float()[None], 17, 1, 8)[0] for x in (strokes.positive, strokes.negative))
        return (4 * positive - 8 * negative - 2)[:, ::4, ::4]


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def session(network: Network) -> Session:
    """An image of 100 x 60 pixels that the network sees at 80 x 48 in an input of 96 x 64."""
    return Session(Canvas(Image.new("RGB", (100, 60)), (48, 80), (64, 96), network))


def test_a_click_gives_a_mask_of_the_images_size(session: Session) -> None:
    session.click(40, 20)
    assert session.masks.shape == (1, 60, 100) and session.masks[0, 20, 40] and not session.masks[0, 50, 90]
    assert session.scores.shape == (1,) and session.scores[0] == pytest.approx(torch.tensor(2.0).sigmoid().item(), abs=0.1)
    assert session.logits.shape == (1, 16, 24)


def test_a_click_marks_the_pixel_that_shows_it(session: Session, network: Network) -> None:
    session.click(99, 59)
    session.logits  # noqa: B018
    assert network.asked[0][0].positive[0].nonzero().tolist() == [[r, c] for r in (46, 47, 48) for c in (78, 79, 80)]


def test_a_negative_click_takes_away(session: Session) -> None:
    session.click(40, 20)
    before = session.masks
    session.click(48, 20, positive=False)
    assert session.masks.sum() < before.sum() and not session.masks[0, 20, 48]


def test_rounds_remember_the_last_masks(session: Session, network: Network) -> None:
    session.click(40, 20)
    first = session.logits
    session.click(60, 20)
    session.click(60, 30)
    assert session.masks.any() and len(network.asked) == 2
    assert network.asked[0][1] is None and network.asked[1][1] is not None and torch.equal(network.asked[1][1], first)


def test_several_objects_take_one_pass(session: Session, network: Network) -> None:
    session.click(20, 20)
    assert session.new_object() == 1
    session.click(80, 40)
    session.select(0)
    session.click(24, 20)
    assert session.masks.shape[0] == 2 and len(network.asked) == 1
    assert session.masks[0, 20, 20] and session.masks[1, 40, 80] and not session.masks[0, 40, 80]


def test_a_new_object_is_there_once_it_is_marked(session: Session) -> None:
    assert session.masks.shape[0] == 0
    session.click(20, 20)
    session.new_object()
    assert session.objects == 2 and session.masks.shape[0] == 1


def test_undo_and_reset(session: Session, network: Network) -> None:
    session.click(20, 20)
    masks = session.masks
    session.click(60, 40)
    assert not torch.equal(session.masks, masks)
    session.undo()
    assert torch.equal(session.masks, masks) and len(network.asked) == 2  # the first answer is still known
    session.reset()
    assert session.masks.shape[0] == 0
    session.undo()
    session.undo()
    with pytest.raises(ValueError, match="there is nothing to undo"):
        session.undo()


def test_a_box_bounds_its_object(session: Session) -> None:
    session.box(30, 10, 60, 40)
    session.click(59, 25)
    mask = session.masks[0]
    assert mask[25, 45] and not mask[:, 64:].any() and not mask[44:].any()


def test_strokes_polygons_and_painted_masks(session: Session) -> None:
    session.stroke([(10, 10), (50, 10)], width=3)
    assert session.masks[0, 10, 10:50].all()
    session.new_object()
    session.polygon([(60, 10), (90, 10), (90, 50), (60, 50)])
    assert session.masks[1, 12:48, 62:88].all()
    session.new_object()
    painted = np.zeros((60, 100), dtype=bool)
    painted[40:45, 10:15] = True
    session.paint(painted)
    assert session.masks[2, 42, 12]
    session.paint(torch.from_numpy(painted), positive=False)
    assert not session.masks[2, 42, 12]


def test_what_it_says_is_drawn_and_written(session: Session, tmp_path: Path) -> None:
    session.click(40, 20)
    session.save(tmp_path / "labelled.png")
    with Image.open(tmp_path / "labelled.png") as labelled:
        assert labelled.mode == "RGB" and session.draw(overlay_only=True).mode == "RGBA"
    (region,) = session.to_coco()
    assert (
        region["name"] == "object 1"
        and region["area"] == int(session.masks.sum())
        and region["segmentation"]["size"] == [60, 100]
    )
    session.save(tmp_path / "labelled.json")
    assert read_json(tmp_path / "labelled.json")["regions"] == [region]


def test_a_mask_can_be_given_back(session: Session, network: Network) -> None:
    session.click(40, 20)
    logits = session.logits
    again = Session(Canvas(session.image, (48, 80), (64, 96), network))
    again.recall(logits)
    again.click(44, 20)
    assert again.masks.any() and torch.equal(network.asked[-1][1], logits)
    with pytest.raises(ValueError, match=r"logits of an earlier answer, \(16, 24\), not \(3, 3\)"):
        again.recall(torch.zeros(3, 3))


WRONG = {
    "a click at (100, 20) lies outside the image of 100 x 60 pixels": lambda s: s.click(100, 20),
    "a click at (-1, 20) lies outside": lambda s: s.click(-1, 20),
    "a click at (nan, 20) lies outside": lambda s: s.click(float("nan"), 20),
    "a stroke needs at least one point (x, y)": lambda s: s.stroke([]),
    "a stroke is made of points (x, y), an array of shape (points, 2), not (1, 3)": lambda s: s.stroke([(1, 2, 3)]),
    "a stroke at (10, 60) lies outside": lambda s: s.stroke([(10, 10), (10, 60)]),
    "a stroke's width is a number of pixels above 0, not 0": lambda s: s.stroke([(10, 10)], width=0),
    "the box from (10, 10) to (10, 40) has no area": lambda s: s.box(10, 10, 10, 40),
    "a box at (110, 40) lies outside": lambda s: s.box(10, 10, 110, 40),
    "a painted mask has the image's size (60, 100) (height, width), not (100, 60)": lambda s: s.paint(np.ones((100, 60))),
    "the painted mask marks no pixel": lambda s: s.paint(np.zeros((60, 100))),
    "a polygon has at least three corners, not 2": lambda s: s.polygon([(1, 1), (5, 5)]),
    "the polygon crosses itself": lambda s: s.polygon([(10, 10), (50, 50), (50, 10), (10, 50)]),
    f"points are too many, at most {MAX_POINTS}": lambda s: s.stroke(np.ones((10_000, 2))),
    "there is no object 3; there are 1, counted from 0": lambda s: s.select(3),
}  # fmt: skip


@pytest.mark.parametrize("sentence", WRONG)
def test_what_goes_wrong_is_said_and_changes_nothing(sentence: str, session: Session) -> None:
    session.click(40, 20)
    masks = session.masks
    with pytest.raises(ValueError) as error:
        WRONG[sentence](session)
    assert sentence in str(error.value) and "\n" not in str(error.value)
    assert torch.equal(session.masks, masks)
    session.undo()
    assert session.masks.shape[0] == 0


FIRST = {
    "the first click on an object must be positive": lambda s: s.click(40, 20, positive=False),
    "a stroke cannot be negative as the first mark": lambda s: s.stroke([(40, 20)], positive=False),
    "a painted mask cannot be negative": lambda s: s.paint(np.ones((60, 100)), positive=False),
    "nothing is marked on the current object yet": lambda s: s.new_object(),
}


@pytest.mark.parametrize("sentence", FIRST)
def test_what_cannot_come_first(sentence: str, session: Session) -> None:
    with pytest.raises(ValueError, match=sentence):
        FIRST[sentence](session)
    session.click(40, 20)
    assert session.masks.shape[0] == 1
