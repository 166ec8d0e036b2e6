"""The interactive task: what it learns from, that it can learn, the rounds by which it is measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.marking import draw_objects
from tests.tiny import tiny_batch, tiny_model, tiny_seem, tiny_tasks
from xdecoder.config import parse
from xdecoder.model import EncoderDecoder, XDecoder
from xdecoder.seem.encoder import StrokesConfig
from xdecoder.seem.strokes import KINDS
from xdecoder.tasks import TasksConfig
from xdecoder.types import Batch, Objects


def task(**settings):
    config = {"points": 64, "matching": {"points": 64}, "limit": 4, **settings}
    return parse(TasksConfig, {"interactive": config}).interactive.build()


def training_batch(seed: int = 0) -> Batch:
    """Two images of different sizes with marked objects."""
    rng = np.random.default_rng(seed)
    samples = tuple(
        replace(sample, objects=draw_objects(sample.segments.masks, 3, KINDS, rng), seed=number)
        for number, sample in enumerate(tiny_batch().samples)
    )
    return replace(tiny_batch(), samples=samples, seed=seed)


def measured_batch() -> Batch:
    samples = tuple(replace(sample, objects=Objects(sample.segments.masks[:2])) for sample in tiny_batch().samples)
    return replace(tiny_batch(), samples=samples)


def with_strokes() -> XDecoder:
    torch.manual_seed(0)
    return XDecoder(tiny_model().config.model_copy(update={"strokes": StrokesConfig(points=40, memory=6)}))


@pytest.mark.parametrize("rounds", [0, 2])
@pytest.mark.parametrize("make", [tiny_seem, with_strokes])
def test_every_parameter_of_strokes_learns_in_every_step(make, rounds: int) -> None:
    network: EncoderDecoder = make().train()
    terms = network.losses([task(rounds=rounds)], training_batch())
    assert {name.split("/")[1] for name in terms} == {"class", "mask", "dice"}
    sum(terms.values()).backward()
    assert all(parameter.grad is not None for parameter in network.strokes.parameters())


def test_what_is_drawn_follows_from_seeds() -> None:
    network = with_strokes().eval()
    first = network.losses([task()], training_batch())
    torch.rand(5)
    again = network.losses([task()], training_batch())
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = network.losses([task()], training_batch(seed=4))
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_an_image_without_objects_counts_for_nothing() -> None:
    network, batch = with_strokes().eval(), training_batch()
    nothing = draw_objects(torch.zeros(0, 48, 64, dtype=torch.bool), 3, KINDS, np.random.default_rng(0))
    none = replace(batch.samples[1], objects=nothing)
    half = network.losses([task(rounds=0)], replace(batch, samples=(batch.samples[0], none)))
    assert all(value.isfinite() for value in half.values()) and sum(half.values()) > 0
    empty = network.losses([task()], replace(batch, samples=(none,)))
    assert sum(empty.values()) == 0
    sum(network.losses([task()], replace(batch, samples=(none,))).values()).backward()


@pytest.mark.parametrize("make", [tiny_seem, with_strokes])
def test_it_mixes_with_the_other_tasks(make) -> None:
    """One encode and one decode; what the others lose is what they lose alone."""
    network = make().eval()
    config = tiny_tasks()
    others = [config.segmentation.build(), config.referring.build()]
    together = network.losses([*others, task(rounds=1)], training_batch())
    alone = network.losses(others, training_batch())
    assert all(torch.allclose(together[name], value, rtol=1e-3) for name, value in alone.items())
    assert {name.split("/")[0] for name in together} == {"segmentation", "referring", "interactive"}
    results = network.predict([config.segmentation.build(), task()], measured_batch())
    assert len(results["segmentation"]) == len(results["interactive"]) == 2


def test_it_can_learn_two_images_by_heart() -> None:
    """Learning the objects of two images makes one click enough to find them."""
    torch.manual_seed(0)
    network, learnt = with_strokes().train(), task(rounds=1)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    before = torch.cat([result.ious for result in network.eval().predict([learnt], measured_batch())["interactive"]])[:, 0]
    network.train()
    for step in range(120):
        optimiser.zero_grad()
        sum(network.losses([learnt], training_batch(step)).values()).backward()
        optimiser.step()
    network.eval()
    after = torch.cat([result.ious for result in network.predict([learnt], measured_batch())["interactive"]])[:, 0]
    assert after.mean() > 0.8 > before.mean()


def test_what_is_measured() -> None:
    network, batch = tiny_seem(), measured_batch()
    results = network.predict([task()], batch)["interactive"]
    assert [tuple(result.ious.shape) for result in results] == [(2, 4), (1, 4)]
    for result, sample in zip(results, batch.samples, strict=True):
        assert 0 < result.passes <= 4 and result.seconds > 0 and 1 <= len(result.shown) <= 3
        assert result.shown[0].mask.shape == sample.output_size == result.shown[0].positive.shape
        assert result.shown[0].positive.any() and not result.shown[0].negative.any()
    again = network.predict([task()], batch)["interactive"]
    assert all(torch.equal(a.ious, b.ious) for a, b in zip(results, again, strict=True))


@pytest.mark.parametrize("first", KINDS)
def test_every_first_mark(first: str) -> None:
    results = tiny_seem().predict([task(first=first, limit=2)], measured_batch())["interactive"]
    assert all(result.ious.isfinite().all() for result in results)


def test_objects_are_decoded_a_few_at_a_time() -> None:
    batch = replace(measured_batch(), samples=measured_batch().samples[:1])
    together, apart = (tiny_seem().predict([task(objects_at_once=n)], batch)["interactive"][0] for n in (2, 1))
    assert together.ious.shape == apart.ious.shape and apart.passes > together.passes


def test_without_strokes_or_objects_one_sentence() -> None:
    with pytest.raises(ValueError, match="this network reads no strokes; SEEM does"):
        tiny_model().predict([task()], measured_batch())
    with pytest.raises(ValueError, match="picture first of tiny has no objects, which interactive segmentation needs"):
        tiny_seem().predict([task()], tiny_batch())


@torch.inference_mode()
def test_masks_that_are_not_finite_name_the_image() -> None:
    network = tiny_seem()
    network.strokes.sign.weight[:] = float("nan")
    with pytest.raises(ValueError, match="image first: the mask of what is marked is not finite"):
        network.predict([task()], measured_batch())
