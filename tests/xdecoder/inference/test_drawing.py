from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from xdecoder.inference.drawing import (
    MIN_SIDE,
    Style,
    class_colours,
    draw_instances,
    draw_masks,
    draw_panoptic,
    draw_semantic,
    enlarge,
    grid,
    instance_colours,
    to_pil,
)
from xdecoder.types import InstanceResult, PanopticResult, PanopticSegment, Vocabulary

VOCABULARY = Vocabulary(("cat", "dog", "grass"), (True, True, False))
HEIGHT, WIDTH = 400, 500  # large enough that nothing is scaled


def _picture(height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    return torch.full((3, height, width), 128, dtype=torch.uint8)


def _panoptic() -> PanopticResult:
    ids = torch.full((HEIGHT, WIDTH), 7, dtype=torch.int32)
    ids[:, 300:] = 0
    ids[50:350, 20:250] = 9
    segments = (PanopticSegment(9, 0, True, 0.9), PanopticSegment(7, 2, False, 0.8))
    return PanopticResult(ids, segments)


def _alpha(layer: Image.Image) -> np.ndarray:
    assert layer.mode == "RGBA"
    return np.asarray(layer)[..., 3]


def test_a_name_keeps_its_colour_whatever_stands_after_it() -> None:
    names = [f"class {i}" for i in range(20)]
    assert class_colours(names)[:5] == class_colours(names[:5])
    assert class_colours(["cat", "dog", "cat"])[0] == class_colours(["cat", "dog", "cat"])[2]


@pytest.mark.parametrize("count", [20, 133])
def test_colours_of_a_vocabulary_differ(count: int) -> None:
    colours = np.array(class_colours([f"class {i}" for i in range(count)]), dtype=float)
    distance = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + 1000 * np.eye(count)
    assert distance.min() > (30 if count == 20 else 3)


def test_panoptic_fills_segments_with_their_class_colour_and_leaves_void_alone() -> None:
    layer = np.asarray(draw_panoptic(_picture(), _panoptic(), VOCABULARY, overlay_only=True))
    cat, _, grass = class_colours(VOCABULARY.names)
    assert tuple(layer[100, 60, :3]) == cat
    assert tuple(layer[380, 30, :3]) == grass
    assert layer[100, 60, 3] > layer[380, 30, 3] > 0  # things more strongly than stuff
    assert not layer[:, 340:, 3].any()


def test_things_lie_above_stuff_whatever_their_order() -> None:
    result = _panoptic()
    turned = PanopticResult(result.ids, result.segments[::-1])
    assert draw_panoptic(_picture(), result, VOCABULARY).tobytes() == draw_panoptic(_picture(), turned, VOCABULARY).tobytes()


def test_semantic_ignores_what_is_no_class() -> None:
    labels = torch.full((HEIGHT, WIDTH), 255)
    labels[:200] = 1
    labels[200:300] = -1
    alpha = _alpha(draw_semantic(_picture(), labels, VOCABULARY, overlay_only=True))
    assert alpha[:200].all() and not alpha[200:].any()


def test_instances_below_the_threshold_are_left_out_and_the_surest_lies_on_top() -> None:
    masks = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.bool)
    masks[0, 10:200, 10:200], masks[1, 100:390, 100:300], masks[2, :, 400:] = True, True, True
    result = InstanceResult(masks, torch.tensor([0, 1, 1]), torch.tensor([0.9, 0.6, 0.2]))
    layer = np.asarray(draw_instances(_picture(), result, VOCABULARY, threshold=0.5, overlay_only=True))
    cat, dog, _ = class_colours(VOCABULARY.names)
    assert tuple(layer[180, 120, :3]) == cat and tuple(layer[380, 120, :3]) == dog
    assert not layer[:, 410:, 3].any()


def test_phrases_keep_the_rest_dark_and_the_truth_outlined() -> None:
    mask = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    mask[0, 100:300, 100:300] = True
    image = np.asarray(draw_masks(_picture(), mask, [""], truth=mask.roll(40, 2)))
    assert image[20, 20].max() < 90 < image[150, 200].min()
    assert (image[200, 330:345] == 255).all(axis=1).any()  # the right edge of the truth


def test_labels_do_not_cover_each_other() -> None:
    ids = torch.zeros(HEIGHT, WIDTH, dtype=torch.int32)
    segments = []
    for i in range(6):  # thin neighbours whose labels would collide
        ids[150:250, 100 + 40 * i : 140 + 40 * i] = i + 1
        segments.append(PanopticSegment(i + 1, i, True, 1.0))
    names = tuple(f"a rather long name {i}" for i in range(6))
    vocabulary = Vocabulary(names, (True,) * 6)
    layer = draw_panoptic(_picture(), PanopticResult(ids, tuple(segments)), vocabulary, overlay_only=True)
    chips = np.asarray(layer)
    areas = []
    for colour in class_colours(names):
        chip = tuple(round(0.22 * channel) for channel in colour)
        areas.append(int((chips[..., :3] == chip).all(axis=-1).sum()))
    assert min(areas) > 0.75 * max(areas)  # a covered chip would be smaller, and one left out is nothing


def test_labels_of_small_things_are_moved_and_point_at_them() -> None:
    masks = torch.zeros(30, HEIGHT, WIDTH, dtype=torch.bool)
    for i in range(30):  # all in one corner, where there is no room for thirty labels
        masks[i, 200 + 6 * (i // 6) : 204 + 6 * (i // 6), 240 + 6 * (i % 6) : 244 + 6 * (i % 6)] = True
    result = InstanceResult(masks, torch.zeros(30, dtype=torch.int64), torch.linspace(0.6, 0.9, 30))
    layers = [
        np.asarray(draw_instances(_picture(), result, VOCABULARY, overlay_only=True, style=Style(labels=labels)))
        for labels in (True, False)
    ]
    written = (layers[0] != layers[1]).any(axis=2)
    chips = {tuple(colour) for colour in layers[0][written & (layers[0][..., 3] == 225)][:, :3].tolist()}
    colours = instance_colours(VOCABULARY.names, [0] * 30)
    assert {tuple(round(0.22 * channel) for channel in colour) for colour in colours} <= chips
    assert not written[:60].any(), "a label is no farther away than it needs to be"


def test_instances_of_a_class_are_told_apart() -> None:
    names = [f"class {i}" for i in range(12)]
    colours = instance_colours(names, [3, 5, 3, 3, 3, 3, 3, 5])
    classes = class_colours(names)
    assert colours[0] == classes[3] and colours[1] == classes[5]
    threes = np.array([colours[i] for i in (0, 2, 3, 4, 5, 6)], dtype=float)
    between = np.linalg.norm(threes[:, None] - threes[None], axis=-1) + 1000 * np.eye(6)
    assert between.min() > 15 and between.max() < 1200
    assert len(set(instance_colours(names, [0] * 100))) > 90
    assert instance_colours(names, []) == []


def test_style() -> None:
    photo = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    photo[0] = 200
    style = Style(labels=False, opacity=0.3, keep_colors=True)
    layer = draw_panoptic(photo, _panoptic(), VOCABULARY, overlay_only=True, style=style)
    assert set(np.unique(_alpha(layer))) == {0, round(0.3 * 255), 235}, "void, regions, outlines"
    drawn = np.asarray(draw_panoptic(photo, _panoptic(), VOCABULARY, style=style))
    assert tuple(drawn[10, 450]) == (200, 0, 0)
    assert np.ptp(np.asarray(draw_panoptic(photo, _panoptic(), VOCABULARY))[10, 450]) < 100
    masks = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    masks[0, 100:300, 100:300] = True
    faint = _alpha(draw_masks(photo, masks, ["a cat"], overlay_only=True, style=Style(labels=False, opacity=0.0)))
    assert faint[200, 200] == 0 and faint[10, 10] == round(0.55 * 255), "what surrounds a phrase's region stays dark"
    for opacity in (1.5, float("nan"), "half"):
        with pytest.raises(ValueError, match="opacity must be a"):
            Style(opacity=opacity)  # type: ignore[arg-type]


def test_small_pictures_are_enlarged_with_sharp_labels() -> None:
    labels = torch.zeros(100, 128, dtype=torch.int64)
    labels[:, 64:] = 2
    drawn = draw_semantic(_picture(100, 128), labels, VOCABULARY, overlay_only=True)
    assert drawn.size == (384, 300) and max(drawn.size) >= MIN_SIDE
    row = np.asarray(drawn)[290]
    grass = class_colours(VOCABULARY.names)[2]
    assert tuple(row[200, :3]) == grass and tuple(row[185, :3]) != grass


def test_the_picture_takes_the_size_of_its_labels() -> None:
    labels = torch.zeros(HEIGHT, WIDTH, dtype=torch.int64)
    assert draw_semantic(_picture(200, 250), labels, VOCABULARY).size == (WIDTH, HEIGHT)
    assert enlarge(_picture(200, 250), (HEIGHT, WIDTH)).size == (WIDTH, HEIGHT)


def test_nothing_found_draws_the_greyed_picture() -> None:
    empty = PanopticResult(torch.zeros(HEIGHT, WIDTH, dtype=torch.int32), ())
    assert np.asarray(draw_panoptic(_picture(), empty, VOCABULARY)).std() == 0
    none = InstanceResult(torch.zeros(0, HEIGHT, WIDTH, dtype=torch.bool), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    assert draw_instances(_picture(), none, VOCABULARY).size == (WIDTH, HEIGHT)


def test_a_picture_of_one_pixel() -> None:
    labels = torch.zeros(1, 1, dtype=torch.int64)
    assert draw_semantic(_picture(1, 1), labels, VOCABULARY).size == (MIN_SIDE, MIN_SIDE)


def test_pil_array_and_tensor_are_the_same_picture() -> None:
    array = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    assert to_pil(array).tobytes() == to_pil(tensor).tobytes() == to_pil(Image.fromarray(array)).tobytes() == array.tobytes()


def test_faults_are_named() -> None:
    with pytest.raises(ValueError, match=r"a picture is a \(3, H, W\) uint8 tensor"):
        to_pil(torch.zeros(3, 4, 4))
    with pytest.raises(ValueError, match="labels must have 2 dimensions"):
        draw_semantic(_picture(), torch.zeros(1, 4, 4), VOCABULARY)
    with pytest.raises(ValueError, match="2 masks need as many texts, not 1"):
        draw_masks(_picture(), torch.zeros(2, 4, 4), ["one"])
    with pytest.raises(ValueError, match="a grid needs pictures"):
        grid([], [], 3)


def test_a_grid_holds_all_pictures_with_captions_below() -> None:
    images = [Image.new("RGB", (100, 60), colour) for colour in ("red", "lime", "blue")]
    sheet = np.asarray(grid(images, ["one", "", "three, with a caption so long that it takes several lines"], columns=2))
    for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)):
        assert (sheet == colour).all(axis=-1).sum() == 6000
    assert sheet.shape[1] == 2 * 112 + 12
    blue_ends = np.nonzero((sheet == (0, 0, 255)).all(axis=-1))[0].max()
    ink = np.nonzero((sheet[blue_ends + 1 :] < 128).all(axis=-1))[0]
    assert np.ptp(ink) > 30  # several lines of text
