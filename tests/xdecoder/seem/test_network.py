"""SEEM's three versions: what hears what, that objects do not disturb each other, and that nothing is left to chance."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.tiny import tiny_model, tiny_seem
from xdecoder.config import parse
from xdecoder.decoder.attention import TokenGroup
from xdecoder.encoded import Encoded
from xdecoder.seem.draws import SeededDraws
from xdecoder.seem.encoder import StrokeEncoder
from xdecoder.seem.network import Seem, SeemConfig
from xdecoder.types import StrokeMaps

VERSIONS = ["v0", "v1", "demo"]


@pytest.fixture(scope="module", params=VERSIONS)
def network(request: pytest.FixtureRequest) -> Seem:
    return tiny_seem(request.param).requires_grad_(False)


@pytest.fixture(scope="module")
def v1() -> Seem:
    return tiny_seem("v1").requires_grad_(False)


def image(network: Seem, count: int = 1) -> Encoded:
    torch.manual_seed(1)
    return network.encode([torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8) for _ in range(count)])


def strokes(*blocks: tuple[int, int], negative: tuple[int, int] | None = None) -> StrokeMaps:
    """One object for each block of 3 x 3 pixels that begins at a row and column."""
    positive = torch.zeros(len(blocks), 64, 96, dtype=torch.bool)
    taken = torch.zeros_like(positive)
    for i, (row, column) in enumerate(blocks):
        positive[i, row : row + 3, column : column + 3] = True
    if negative:
        taken[0, negative[0] : negative[0] + 3, negative[1] : negative[1] + 3] = True
    return StrokeMaps(positive, taken)


def masks(network: Seem, marked: StrokeMaps, previous: Tensor | None = None) -> Tensor:
    before = None if previous is None else [previous]
    return network.strokes.segment(image(network), [marked], before, SeededDraws())[0]


def test_one_mask_an_object_and_the_same_again(network: Seem) -> None:
    found = masks(network, strokes((10, 10), (40, 60)))
    assert found.shape == (2, 16, 24)
    torch.rand(3)  # torch's own generator has nothing to do with it
    assert torch.equal(masks(network, strokes((10, 10), (40, 60))), found)


def test_strokes_negative_strokes_and_memory_change_the_mask(network: Seem) -> None:
    first = masks(network, strokes((10, 10)))
    assert not torch.allclose(masks(network, strokes((40, 60))), first)
    assert not torch.allclose(masks(network, strokes((10, 10), negative=(40, 60))), first)
    again = masks(network, strokes((10, 10)), first)
    assert torch.allclose(again, first) == (network.config.strokes.queries == "object")  # the demo has no memory


def test_an_object_does_not_disturb_another(network: Seem) -> None:
    """The second object's strokes move; the first one's mask stays."""
    one, other = masks(network, strokes((10, 10), (40, 60))), masks(network, strokes((10, 10), (20, 80)))
    assert torch.allclose(one[0], other[0], atol=1e-5) and not torch.allclose(one[1], other[1], atol=1e-3)


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_phrases_strokes_and_objects_are_three_conversations(version: str) -> None:
    network = tiny_seem(version).requires_grad_(False)
    encoded, decoder = image(network), network.decoder
    words = TokenGroup("word", *torch.randn(2, 1, 5, 32).unbind(0))
    marked = network.strokes.mark(encoded, [strokes((10, 10))], None, SeededDraws())
    everything = encoded.ask(*decoder.latent_queries(1), decoder.grounding_queries(1), words, *marked.groups)
    alone = {
        "object": encoded.ask(*decoder.latent_queries(1)),
        "grounding": encoded.ask(decoder.grounding_queries(1), words),
        "spatial": encoded.ask(*marked.groups),
    }
    for name, prediction in alone.items():
        assert torch.allclose(everything[name].mask, prediction[name].mask, atol=1e-5)
    assert not network.strokes.hears(decoder)


def test_in_the_demo_a_phrase_changes_what_a_stroke_finds() -> None:
    network = tiny_seem("demo").requires_grad_(False)
    words = TokenGroup("word", *torch.randn(2, 1, 5, 32).unbind(0))
    encoded, marked, draws = image(network), strokes((10, 10), (40, 60)), SeededDraws()
    silent = network.strokes.segment(encoded, [marked], None, draws)[0]
    spoken = network.strokes.segment(encoded, [marked], None, draws, words)[0]
    assert network.strokes.hears(network.decoder) and silent.shape == spoken.shape and not torch.allclose(silent, spoken)


def test_images_with_different_numbers_of_objects(network: Seem) -> None:
    encoded = image(network, 2)
    marked = [strokes((10, 10), (40, 60)), strokes((20, 20))]
    first, second = network.strokes.segment(encoded, marked, None, SeededDraws(0, (0, 0)))
    assert len(first) == 2 and len(second) == 1
    alone = network.strokes.segment(encoded.of(1), [strokes((20, 20), (0, 0))], None, SeededDraws())[0]
    assert torch.allclose(second[0], alone[0], atol=1e-4)


def test_more_objects_than_memory_tokens(v1: Seem) -> None:
    blocks = [(row, column) for row in range(0, 60, 16) for column in range(0, 90, 24)]
    assert len(blocks) > v1.config.strokes.memory
    first = masks(v1, strokes(*blocks))
    assert masks(v1, strokes(*blocks), first).isfinite().all()


def test_a_new_object_joins_those_that_have_a_mask(v1: Seem) -> None:
    first = masks(v1, strokes((10, 10)))
    assert masks(v1, strokes((10, 10), (40, 60)), first).shape[0] == 2


def test_of_many_points_only_some_are_looked_at_each_object_alike(v1: Seem) -> None:
    marked = StrokeMaps(torch.zeros(2, 64, 96, dtype=torch.bool), torch.zeros(2, 64, 96, dtype=torch.bool))
    marked.positive[0, :60] = True
    marked.positive[1, 62, :40] = True
    owners = [v1.strokes._points(0, marked.positive, SeededDraws(0, (seed,)))[1] for seed in range(20)]
    assert all(len(owner) == 40 and owner.equal(owner.sort().values) for owner in owners)
    assert 0.3 < torch.cat(owners).double().mean() < 0.7  # of 5760 and 40 points
    assert masks(v1, marked).shape[0] == 2


def test_an_example_is_found_on_another_image(network: Seem) -> None:
    encoded = image(network, 2)
    example = network.strokes.mark(encoded.of(0), [strokes((10, 10))], None, SeededDraws()).as_example()
    logits, scores = network.strokes.find(encoded.of(1), example)
    assert logits.shape == (1, 16, 24) and scores.shape == (1,) and -1 <= scores.item() <= 1
    other = network.strokes.mark(encoded.of(0), [strokes((40, 60))], None, SeededDraws()).as_example()
    assert not torch.allclose(network.strokes.find(encoded.of(1), other)[0], logits)


def test_a_memory_that_is_only_there_to_learn_is_seen_by_nobody(v1: Seem) -> None:
    encoded, marked = image(v1), [strokes((10, 10))]
    with_it = v1.strokes.mark(encoded, marked, None, SeededDraws(), learning=True)
    without = v1.strokes.mark(encoded, marked, None, SeededDraws())
    assert {group.name for group in with_it.groups} - {group.name for group in without.groups} == {"memory"}
    a, b = (encoded.ask(*each.groups)["spatial"].mask for each in (with_it, without))
    assert torch.allclose(a, b, atol=1e-6)


def test_what_seem_does_not_do_is_said() -> None:
    with pytest.raises(ValueError, match=r"\(seem\) cannot do captioning; it does segmentation, referring, interactive"):
        tiny_seem().require("captioning")
    assert tiny_model().strokes is None


def test_every_config_survives_its_file(network: Seem) -> None:
    again = parse(SeemConfig, network.config.model_dump(mode="json"))
    assert again == network.config and again.decoder.attention == network.decoder.table


def test_half_precision(v1: Seem) -> None:
    half = tiny_seem("v1")
    half.for_inference(torch.bfloat16)
    found = half.strokes.segment(image(half), [strokes((10, 10))], None, SeededDraws())[0]
    assert found.dtype == torch.bfloat16 and found.isfinite().all()


def test_tokens_may_say_where_their_pixels_lie(v1: Seem) -> None:
    """On an image that looks the same everywhere, only positions tell two clicks apart."""
    grey = v1.encode([torch.full((3, 64, 96), 128, dtype=torch.uint8)])
    flat = replace(grey, maps=tuple(torch.ones_like(x) for x in grey.maps))
    placed = StrokeEncoder(v1.config.strokes.model_copy(update={"positions": True}), 32)
    placed.load_state_dict(v1.strokes.state_dict())
    for encoder, differs in ((v1.strokes, False), (placed, True)):
        tokens = [
            next(group for group in encoder.mark(flat, [strokes(place)], None, SeededDraws()).groups if group.name == "stroke")
            for place in ((10, 10), (40, 60))
        ]
        assert torch.allclose(tokens[0].fresh[2].content, tokens[1].fresh[2].content, atol=1e-5) != differs
