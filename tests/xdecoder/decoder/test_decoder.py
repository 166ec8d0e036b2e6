from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_batch, tiny_model
from xdecoder.decoder.attention import TokenGroup
from xdecoder.tasks.captioning import caption_tokens
from xdecoder.tasks.referring import word_tokens


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def features(model):
    with torch.no_grad():
        return model.encode(tiny_batch().images)


def test_shapes_of_every_prediction(model, features):
    layers = model.decode(features)
    assert len(layers) == 5
    for layer in layers:
        assert layer["object"].semantic.shape == (2, 8, 32)
        assert layer["image"].mask.shape == (2, 1, 32)
        assert layer.object_and_image.masks(features.mask).shape == (2, 9, 16, 24)
        assert set(layer) == {"object", "image"}


@torch.no_grad()
def test_latents_are_untouched_by_captions_and_phrases(model, features):
    alone = model.decode(features)[-1].object_and_image
    texts = model.language.encode(["a cat", "the dog on the right"])
    groups = [caption_tokens(model, texts), model.decoder.grounding_queries(2), word_tokens(texts, [[0], [0, 1]])]
    together = model.decode(features, groups)[-1]
    assert torch.allclose(alone.semantic, together.object_and_image.semantic, atol=1e-5)
    assert together["grounding"].semantic.shape == (2, 8, 32)
    assert not torch.allclose(together["grounding"].semantic, together["object"].semantic, atol=1e-3)


@torch.no_grad()
def test_a_caption_sees_no_later_word(model, features):
    long = model.language.encode(["a cat under the sky", "a dog"])
    full = model.decode(features, [caption_tokens(model, long)])[-1]["caption"].word
    short = model.language.encode_ids(long.ids[:, :3])
    start = model.decode(features, [caption_tokens(model, short)])[-1]["caption"].word
    assert torch.allclose(full[:, :3], start, atol=1e-5)


@torch.no_grad()
def test_padding_words_do_not_matter(model, features):
    texts = model.language.encode(["a cat", "the dog on the right"])
    queries = model.decoder.grounding_queries(2)
    words = word_tokens(texts, [[0], [0, 1]])
    assert words.present is not None and words.present[0].sum() < words.present[1].sum()
    noisy = TokenGroup("word", words.content + 7.0 * ~words.present[..., None], words.position, words.present)
    a = model.decode(features, [queries, words])[-1]["grounding"].semantic
    b = model.decode(features, [queries, noisy])[-1]["grounding"].semantic
    assert torch.allclose(a, b, atol=1e-5)


@torch.no_grad()
def test_queries_look_inside_their_own_mask(model, features, monkeypatch):
    """Opening the cross-attention everywhere must change the result; with it the masks would be decoration."""
    masked = model.decode(features)[-1]["object"].semantic
    monkeypatch.setattr(
        "xdecoder.decoder.decoder.own_mask", lambda logits: torch.ones_like(logits.flatten(2), dtype=torch.bool)
    )
    assert not torch.allclose(masked, model.decode(features)[-1]["object"].semantic, atol=1e-4)


@torch.no_grad()
def test_layers_read_the_maps_that_the_config_names(model, features):
    coarse, middle, fine = features.maps
    changed = replace(features, maps=(coarse, middle + 1.0, fine))
    decoder = model.decoder
    try:
        for maps, reads in (((0, 2), False), ((0, 2, 2, 1), True), ((0, 1, 2), True)):
            decoder.maps = maps
            same = torch.equal(model.decode(features)[-1]["object"].mask, model.decode(changed)[-1]["object"].mask)
            assert same != reads, maps
    finally:
        decoder.maps = (0, 1, 2)


def test_a_mask_of_resized_features_is_the_resized_mask(model, features):
    prediction = model.decode(features)[-1]
    level = model.decoder.read(features.mask, features.maps).levels[0]
    small, size = level.features, level.size
    masks = prediction["object"].masks(features.mask)
    resized = torch.nn.functional.interpolate(masks, size=size, mode="bicubic", antialias=True)
    assert torch.allclose(prediction["object"].masks(small), resized, atol=1e-4)


def test_every_prediction_is_learnt_from(model, features):
    """What a layer says is read by its losses and by the next layer's attention mask, of which only the former learn."""
    groups = [model.decoder.grounding_queries(2), word_tokens(model.language.encode(["a cat"]), [[0], [0]])]
    for layer in model.decode(features, groups):
        for group in ("object", "image", "grounding"):
            for output in (layer[group].semantic, layer[group].mask):
                (gradient,) = torch.autograd.grad(output.square().sum(), model.decoder.query_content.weight, retain_graph=True)
                assert gradient.abs().sum() > 0, group
