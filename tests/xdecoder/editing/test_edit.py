"""Editing from the instruction to the result that was looked at again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.painted import COLOURS, PaintedPicture, painted_scene
from tests.tiny import tiny_model
from xdecoder.editing import EditConfig, Edited, Step, edit
from xdecoder.editing.edit import beside
from xdecoder.inference.predictor import Predictor


def lime(image: Image.Image, mask: np.ndarray, prompt: str) -> Image.Image:
    """An in-painter of one colour, which paints over the mask's border as diffusion networks do."""
    return Image.new("RGB", image.size, COLOURS["green"] if "green" in prompt else (128, 0, 128))


def pixels(result: Edited) -> np.ndarray:
    return np.asarray(result.image).astype(int)


def test_what_is_removed_is_gone() -> None:
    scene = painted_scene()
    result = edit(PaintedPicture(scene), "remove the red square")
    (done,) = result.edits
    assert done.before.score > 0.5 > done.after.score and not done.after.mask.any()
    assert np.abs(pixels(result)[12:23, 10:26] - (210, 205, 190)).max() < 60, "filled from around it"
    assert done.changed_outside == 0 and done.changed >= 15 * 20


INSTRUCTIONS = [
    "remove the red square",
    "replace the red square with a green ball",
    "make the red square look like gold",
    "add a green hat to the right of the red square",
    "make the red square white",
    "blur the red square",
    "blur everything but the red square",
    "grey out the blue things",
    "keep only the green square",
]


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_no_pixel_changes_outside_of_the_mask(instruction: str) -> None:
    scene = painted_scene()
    result = edit(PaintedPicture(scene), instruction, inpainter=lime)
    (done,) = result.edits
    differs = (np.asarray(result.image) != np.asarray(scene)).any(axis=2)
    assert differs.any() and not differs[~done.mask].any()
    assert (done.changed, done.changed_outside) == (int(differs.sum()), 0)


def test_each_operation_does_what_it_says() -> None:
    scene = np.asarray(painted_scene()).astype(int)
    white = pixels(edit(PaintedPicture(painted_scene()), "make the red square white"))
    assert white[15:20, 12:24].min() > 190
    kept = pixels(edit(PaintedPicture(painted_scene()), "keep only the green square"))
    green = np.zeros((60, 90), bool)
    green[35:50, 50:70] = True
    assert (kept[green] == scene[green]).all() and (kept[~green] == 255).all()
    grey = pixels(edit(PaintedPicture(painted_scene()), "grey out everything but the red square"))
    assert (np.ptp(grey[40:50, 55:65], axis=2) == 0).all() and (grey[12:23, 10:26] == scene[12:23, 10:26]).all()
    both = edit(PaintedPicture(painted_scene()), "make all blue things black")
    assert both.edits[0].before.kind == "score"
    assert pixels(both)[6:12, 72:82].max() < 80 and pixels(both)[42:52, 10:20].max() < 80


def test_steps_follow_each_other() -> None:
    instruction = "replace the red square with a green ball, then grey out everything but the green things"
    result = edit(PaintedPicture(painted_scene()), instruction, inpainter=lime)
    first, second = result.edits
    assert first.after.score > first.before.score, "the new thing was found"
    assert second.before.mask[17, 18], "it counts among the green things"
    assert result.to_json()["edits"][0]["prompt"] == "a green ball"


def test_what_is_not_there_is_said_and_nothing_is_changed() -> None:
    with pytest.raises(ValueError, match=r"'the zebra' was not found in this picture \(cosine 0\.00, at least 0\.10 is needed"):
        edit(PaintedPicture(painted_scene()), "remove the zebra")
    with pytest.raises(ValueError, match=r"'zebra' was not found in this picture \(score 0\.00, at least 0\.30"):
        edit(PaintedPicture(painted_scene()), "remove all zebras")


def test_new_things_need_a_network_that_paints() -> None:
    sentence = "'replace the red square → a cat' needs an in-painting network; name a folder"
    with pytest.raises(ValueError, match=sentence):
        edit(PaintedPicture(painted_scene()), "make the red square blue and replace the red square with a cat")


@pytest.mark.parametrize(
    ("place", "box"), [("on", (10, 20)), ("left of", (10, 12)), ("right of", (10, 28)), ("above", (6, 20)), ("below", (14, 20))]
)
def test_new_things_stand_beside_their_landmark(place: Any, box: tuple[int, int]) -> None:
    found = np.zeros((40, 50), bool)
    found[10:14, 20:28] = True
    where = np.zeros_like(found)
    where[box[0] : box[0] + 4, box[1] : box[1] + 8] = True
    assert (beside(found, place) == where).all()


def test_there_must_be_room_for_new_things() -> None:
    found = np.zeros((40, 50), bool)
    found[10:14, 1:9] = True
    with pytest.raises(ValueError, match="too little room left of the target"):
        beside(found, "left of")


def test_a_real_network_edits(seed: int) -> None:
    predictor = Predictor(tiny_model())
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    steps = [Step(operation="blur", target="the cat"), Step(operation="remove", target="dog", every=True)]
    result = predictor.encode(noise).edit(steps, config=EditConfig(cosine=-1, score=0))
    assert result.image.size == (60, 40) and [done.changed_outside for done in result.edits] == [0, 0]
