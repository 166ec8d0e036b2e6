"""What `published_quirks` switches, each against the same network without."""

from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_batch, tiny_config, tiny_model, tiny_tasks
from xdecoder.config import parse
from xdecoder.losses.contrastive import mean_direction, word_contrast
from xdecoder.losses.matching import Matches
from xdecoder.model import XDecoder
from xdecoder.tasks import TasksConfig
from xdecoder.tasks.captioning import regions_of
from xdecoder.tasks.referring import word_tokens
from xdecoder.types import Phrases


@pytest.fixture(scope="module")
def plain():
    return tiny_model()


@pytest.fixture(scope="module")
def quirky(plain):
    model = XDecoder(tiny_config().model_copy(update={"published_quirks": True}))
    model.load_state_dict(plain.state_dict())
    return model.eval()


def with_nouns():
    batch = tiny_batch()
    first, second = batch.samples
    samples = (replace(first, nouns=(("cat", "dogs", "sky"),)), replace(second, captions=("a dog",), nouns=(("dog",),)))
    return replace(batch, samples=samples)


@torch.no_grad()
def test_latents_and_masks_are_the_same_but_for_rounding(plain, quirky):
    features = plain.encode(tiny_batch().images)
    for ours, published in zip(plain.decode(features), quirky.decode(features), strict=True):
        assert torch.allclose(ours.object_and_image.semantic, published.object_and_image.semantic, atol=1e-4)


@torch.no_grad()
def test_a_grounding_query_looks_everywhere(plain, quirky):
    """A: the first of them, in every layer."""
    features = plain.encode(tiny_batch().images)
    texts = plain.language.encode(["a cat"])
    groups = [plain.decoder.grounding_queries(2), word_tokens(texts, [[0], [0]])]
    prediction = plain.decode(features, groups)[0]
    looking = [*plain.decoder.latent_queries(2), groups[0]]
    level = plain.decoder.read(torch.randn(features.mask.shape), features.maps, full_size_masks=True).levels[1]
    shut, opened = (model.decoder.visible(prediction, looking, level, model.decoder.table) for model in (plain, quirky))
    assert opened[:, 9].all() and not shut[:, 9].all()
    rest = [row for row in range(17) if row != 9]
    assert torch.equal(opened[:, rest], shut[:, rest])


@torch.no_grad()
def test_padding_words_are_seen(plain, quirky):
    """B: a picture's shorter phrases are followed by vectors that take part."""
    features = plain.encode(tiny_batch().images)
    texts = plain.language.encode(["a cat", "the dog on the right"])
    words = word_tokens(texts, [[0], [0, 1]])
    noisy = replace(words, content=words.content + 7.0 * ~words.present[..., None])
    for model, same in ((plain, True), (quirky, False)):
        a, b = (
            model.decode(features, [model.decoder.grounding_queries(2), x])[-1]["grounding"].semantic for x in (words, noisy)
        )
        assert torch.allclose(a[0], b[0], atol=1e-5) is same
        assert torch.allclose(a[1], b[1], atol=1e-5)


def test_unmatched_queries_get_no_gradient(plain, quirky, monkeypatch):
    """C: both say the same, but the published one learns less from it."""
    seen = []
    for model in (plain, quirky):
        torch.manual_seed(0)
        tasks = parse(TasksConfig, {"segmentation": {"points": 64, "matching": {"points": 64}, "noun_weight": 1.0}})
        terms = model.losses(tasks.build(["segmentation"]), with_nouns())
        model.zero_grad()
        terms["segmentation/noun/layer0"].backward()
        seen.append((terms["segmentation/noun/layer0"].item(), model.decoder.heads.semantic.grad.norm().item()))
    (ours, our_gradient), (published, their_gradient) = seen
    assert ours == pytest.approx(published, rel=1e-4)
    assert abs(our_gradient - their_gradient) > 1e-2 * our_gradient


def test_a_picture_without_phrases_silences_the_batch(plain, quirky):
    """D: referring is not learnt from the other pictures then."""
    batch = tiny_batch()
    bare = replace(batch.samples[0], phrases=Phrases((), torch.zeros(0, 64, 96, dtype=torch.bool)))
    batch = replace(batch, samples=(bare, batch.samples[1]))
    for model, silent in ((plain, False), (quirky, True)):
        terms = model.losses(tiny_tasks().build(["referring"]), batch)
        assert set(terms) == {f"referring/{term}/layer{i}" for term in ("class", "mask", "dice") for i in range(3)}
        assert (sum(terms.values()).item() == 0) is silent


def test_a_picture_weighs_the_same_however_many_phrases_it_has():
    """The mean over pictures, not over phrases, of the referring class loss."""
    referring = tiny_tasks().referring.build()
    logits = [torch.randn(1, 8, 1), torch.randn(1, 8, 3)]
    phrases = [Phrases(("a",), torch.zeros(1, 1, 1).bool()), Phrases(("a", "b", "c"), torch.zeros(3, 1, 1).bool())]
    place = torch.tensor([0, 1, 1, 1])
    matches = Matches(torch.zeros(4).long(), place, torch.tensor([5, 2, 3, 4]), torch.tensor([0, 0, 1, 2]))
    one = -logits[0].log_softmax(1)[0, 5, 0]
    three = -logits[1].log_softmax(1)[0, [2, 3, 4], [0, 1, 2]].mean()
    assert torch.allclose(referring._query_loss(logits, matches, phrases, 4, None), (one + 3 * three) / 4)
    assert torch.allclose(referring._query_loss(logits, matches, phrases, 4, 2), (one + three) / 2)


def test_the_word_to_image_part_fades_with_the_number_of_words(plain, quirky):
    """The fine contrast of retrieval."""
    objects, words, present = mean_direction(torch.randn(2, 3, 8)), torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)
    scale = torch.tensor(1.0)
    full, faded = (word_contrast(objects, words, present, scale, twice) for twice in (False, True))
    to_words = (5 * faded - full) / 4  # full = w + i, faded = w + i / 5
    assert 0 < to_words < faded < full
    ours, published = (m.losses(tiny_tasks().build(["retrieval"]), with_nouns()) for m in (plain, quirky))
    assert ours["retrieval/pair/layer0"].item() == pytest.approx(published["retrieval/pair/layer0"].item(), rel=1e-4)
    assert published["retrieval/word/layer0"] < ours["retrieval/word/layer0"]


def test_regions_are_stretched_over_the_padding(plain):
    """The region of a caption ignores the padding, where ours is cut to the picture."""
    batch = tiny_batch()
    left = torch.zeros(48, 64, dtype=torch.bool)
    left[:, :32] = True
    batch = replace(batch, samples=(batch.samples[0], replace(batch.samples[1], region=left)))
    features = plain.encode(batch.images)
    ours, published = regions_of(batch, features), regions_of(batch, features, published_quirks=True)
    assert ours.shape == published.shape == (2, 64, 96)
    assert ours[1, :48, :32].all() and ours[1].sum() == 48 * 32
    assert published[1, :, :48].all() and published[1].sum() == 64 * 48
    wrong = replace(batch, samples=(batch.samples[0], replace(batch.samples[1], region=left[:9])))
    with pytest.raises(ValueError, match=r"the region of picture second of tiny must have the picture's size \(48, 64\)"):
        regions_of(wrong, features)
