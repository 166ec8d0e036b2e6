"""Geometry of the transforms, against Pillow and the published examples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.transforms import LargeScaleJitter, RandomCrop, Transform, TransformConfig, View, view_of
from xdecoder.config import Config, ConfigError, parse
from xdecoder.resizing import ShortestEdge, Stretch


class Holder(Config):
    transform: TransformConfig


def _picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "max_size", "given", "expected"),
    [
        (800, 1333, (480, 640), (800, 1067)),
        (800, 1333, (427, 640), (800, 1199)),
        (800, 1333, (300, 640), (625, 1333)),
        (640, 2560, (512, 683), (640, 854)),
        (512, 1024, (480, 640), (512, 683)),
    ],
)
def test_shortest_edge_sizes(size: int, max_size: int, given: tuple[int, int], expected: tuple[int, int]) -> None:
    view = view_of(ShortestEdge(size=size, max_size=max_size), given, np.random.default_rng(0))
    assert view.resized == view.size == expected


@pytest.mark.parametrize(("scale", "expected"), [(0.5, (384, 512)), (2.0, (1536, 2048))])
def test_jitter_sizes(scale: float, expected: tuple[int, int]) -> None:
    config = LargeScaleJitter(size=1024, min_scale=scale, max_scale=scale)
    assert config.view((480, 640), np.random.default_rng(0)).resized == expected


def test_pixels_as_pillow_resizes_them() -> None:
    pixels = _picture(60, 90)
    image, _ = Transform(ShortestEdge(size=30, max_size=45))(pixels, [], np.random.default_rng(0))
    expected = np.asarray(Image.fromarray(pixels).resize((45, 30), Image.Resampling.BILINEAR))
    assert image.dtype == torch.uint8 and np.array_equal(image.numpy().transpose(1, 2, 0), expected)


@pytest.mark.parametrize("size", [(30, 45), (61, 97), (120, 180), (60, 90)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_maps_as_pillow_nearest(size: tuple[int, int], mirrored: bool) -> None:
    map_ = _picture(60, 90)[..., 0]
    resized = np.asarray(Image.fromarray(map_).resize(size[::-1], Image.Resampling.NEAREST))
    expected = resized[:, ::-1] if mirrored else resized
    corner, window = (5, 7), (20, 30)
    view = View(size, window, corner, mirrored)
    assert np.array_equal(view.maps(map_[None])[0], expected[5:25, 7:37])


@pytest.mark.parametrize(
    "config",
    [
        LargeScaleJitter(size=48, min_scale=0.4, max_scale=2.0, flip=0.5),
        RandomCrop(size=(40, 56), min_scale=0.5, max_scale=1.5, flip=0.5),
        Stretch(size=40),
        ShortestEdge(size=40, max_size=80),
    ],
)
def test_pixels_and_maps_move_alike(config: TransformConfig) -> None:
    """A smooth picture and its threshold stay together through every transform; padding is grey and false."""
    y, x = np.mgrid[:80, :120]
    ramp = (x * 1.2 + y * 0.8).astype(np.uint8)
    pixels, maps = np.stack([ramp] * 3, axis=-1), (ramp > 90)[None]
    full = np.ones_like(maps)
    for seed in range(20):
        image, (mask, inside) = Transform(config)(pixels, [maps, full], np.random.default_rng(seed))
        assert mask.shape[1:] == tuple(image.shape[1:]) and mask.dtype == bool
        shown = image[0].numpy()
        assert (shown[~inside[0]] == 128).all() and not mask[~inside].any()
        clear = inside[0] & (np.abs(shown.astype(int) - 90) > 6)
        assert np.array_equal(mask[0][clear], shown[clear] > 90)


def test_jitter_pads_right_and_below() -> None:
    config = LargeScaleJitter(size=64, min_scale=0.5, max_scale=0.5, flip=0.0)
    image, (mask,) = Transform(config)(_picture(40, 40), [np.ones((1, 40, 40), dtype=np.uint8)], np.random.default_rng(0))
    assert mask[0, :32, :32].all() and mask.sum() == 32 * 32
    assert (image[:, 32:] == 128).all() and (image[:, :, 32:] == 128).all()


def test_crop_offset_is_one_share_of_both_axes() -> None:
    config = LargeScaleJitter(size=50, min_scale=2.0, max_scale=2.0)
    corners = [config.view((100, 100), np.random.default_rng(seed)).corner for seed in range(20)]
    assert all(top == left for top, left in corners) and len(set(corners)) > 10


def test_crop_of_a_picture_at_a_given_shorter_side() -> None:
    config = RandomCrop(size=(32, 32), min_scale=1, max_scale=1, shorter_side=64)
    views = [config.view(size, np.random.default_rng(0)) for size in ((128, 256), (30, 20))]
    assert [view.resized for view in views] == [(64, 128), (96, 64)] and all(view.size == (32, 32) for view in views)


def test_flip_chance() -> None:
    for chance, low, high in ((0.0, 0, 0), (1.0, 200, 200), (0.5, 70, 130)):
        config = RandomCrop(size=(8, 8), flip=chance)
        assert low <= sum(config.view((9, 9), np.random.default_rng(seed)).mirrored for seed in range(200)) <= high


def test_same_generator_same_view_and_colour() -> None:
    transform = Transform(RandomCrop(size=(32, 32), colour=0.4))
    pixels = _picture(50, 60)
    first, second, other = (transform(pixels, [], np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_colour_jitter_keeps_range_and_grey() -> None:
    plain = Transform(RandomCrop(size=(20, 20), min_scale=1, max_scale=1, flip=0.0))
    jittered = Transform(RandomCrop(size=(20, 20), min_scale=1, max_scale=1, flip=0.0, colour=0.5))
    grey = np.full((20, 20, 3), 100, dtype=np.uint8)
    values = [jittered(grey, [], np.random.default_rng(seed))[0] for seed in range(20)]
    assert all(int(v.max()) - int(v.min()) <= 1 for v in values)  # saturation leaves grey grey
    assert len({int(v[0, 0, 0]) for v in values}) > 5 and all(45 <= int(v[0, 0, 0]) <= 155 for v in values)
    padded = Transform(RandomCrop(size=(30, 20), min_scale=1, max_scale=1, colour=0.5))(grey, [], np.random.default_rng(3))[0]
    assert (padded[:, 20:] == 128).all()
    assert (plain(grey, [], np.random.default_rng(0))[0] == 100).all()


def test_settings_are_checked() -> None:
    assert isinstance(parse(Holder, {"transform": {"name": "lsj", "size": 64}}).transform, LargeScaleJitter)
    with pytest.raises(ConfigError, match="expected one of"):
        parse(Holder, {"transform": {"name": "lsjj"}})
    with pytest.raises(ConfigError, match="min_scale 2.0 is larger than max_scale 1.0"):
        parse(Holder, {"transform": {"name": "lsj", "min_scale": 2, "max_scale": 1}})
    with pytest.raises(ConfigError, match="did you mean 'max_size'"):
        parse(Holder, {"transform": {"name": "shortest_edge", "maxsize": 3}})


@pytest.mark.parametrize(
    "config",
    [
        LargeScaleJitter(size=64, min_scale=0.1, max_scale=2.0, flip=0.5),
        RandomCrop(size=(40, 56), min_scale=0.5, max_scale=3.0, flip=0.5),
        Stretch(size=40),
    ],
)
def test_fast_pixels_are_pillows_but_for_rounding(config: TransformConfig) -> None:
    """Twice as fast to learn from, not another picture: at most two levels away, seldom more than one."""
    smooth = np.array(Image.fromarray(_picture(12, 18)).resize((90, 60), Image.Resampling.BICUBIC))
    for seed in range(12):
        exact, fast = (Transform(config, exact)(smooth, [], np.random.default_rng(seed))[0].int() for exact in (True, False))
        difference = (exact - fast).abs()
        assert exact.shape == fast.shape and int(difference.max()) <= 2 and float((difference > 1).float().mean()) < 0.02
