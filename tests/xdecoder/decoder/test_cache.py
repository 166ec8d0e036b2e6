"""Latents, phrases and answers decoded by themselves against the whole decoder that training uses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_batch, tiny_config, tiny_model
from xdecoder.decoder.cache import TokenCache
from xdecoder.model import Encoded, XDecoder
from xdecoder.tasks.captioning import caption_tokens
from xdecoder.tasks.referring import locate, word_tokens

PHRASES = ["a cat", "the dog on the right of the small cat", "sky"]


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "published quirks"])
def model(request: pytest.FixtureRequest) -> XDecoder:
    quirky = XDecoder(tiny_config().model_copy(update={"published_quirks": request.param}))
    quirky.load_state_dict(tiny_model().state_dict())
    return quirky.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def features(model: XDecoder) -> Encoded:
    return replace(model.encode(tiny_batch().images), full_size_masks=model.config.published_quirks)


@pytest.mark.parametrize("keep", [True, False])
def test_latents(model: XDecoder, features: Encoded, keep: bool) -> None:
    expected = model.decode(features)[-1].object_and_image
    outputs = replace(features, keep=keep).latents.outputs
    torch.testing.assert_close(outputs.semantic, expected.semantic, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(outputs.masks(features.mask), expected.masks(features.mask), rtol=1e-4, atol=1e-5)


def test_phrases_asked_at_once_are_decoded_as_if_alone(model: XDecoder, features: Encoded) -> None:
    one = features.of(1)
    scores, masks = locate(model, one, PHRASES)
    for i, phrase in enumerate(PHRASES):
        words = word_tokens(model.language.encode([phrase]), [[0]])
        alone = model.decode(one, [model.decoder.grounding_queries(1), words])[-1]["grounding"]
        vector = torch.nn.functional.normalize(model.language.encode([phrase]).vectors[0], dim=-1)
        score, query = (torch.nn.functional.normalize(alone.semantic[0], dim=-1) @ vector).max(dim=0)
        torch.testing.assert_close(scores[i], score, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(masks[i], alone.masks(one.mask)[0, query], rtol=1e-4, atol=1e-5)


def test_phrases_read_together_see_each_other(model: XDecoder, features: Encoded) -> None:
    one = features.of(1)
    words = word_tokens(model.language.encode(PHRASES), [[0, 1, 2]])
    grounding = model.decode(one, [model.decoder.grounding_queries(1), words])[-1]["grounding"]
    vectors = torch.nn.functional.normalize(model.language.encode(PHRASES).vectors, dim=-1)
    expected, _ = (torch.nn.functional.normalize(grounding.semantic[0], dim=-1) @ vectors.T).max(dim=0)
    scores, _ = locate(model, one, PHRASES, together=True)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
    alone, _ = locate(model, one, PHRASES)
    assert not torch.allclose(alone, scores, atol=1e-4)


def test_each_image_gets_its_own_questions(model: XDecoder, features: Encoded) -> None:
    """Two phrases about each of two images, in one go."""
    texts = model.language.encode(PHRASES)
    asked = [[0], [1], [2], [0]]
    found = features.ask(model.decoder.grounding_queries(4), word_tokens(texts, asked))["grounding"].tokens
    for row, (image, phrase) in enumerate(zip((0, 0, 1, 1), asked, strict=True)):
        words = word_tokens(model.language.encode([PHRASES[phrase[0]]]), [[0]])
        alone = features.of(image).ask(model.decoder.grounding_queries(1), words)["grounding"].tokens
        torch.testing.assert_close(found[row], alone[0], rtol=1e-4, atol=1e-5)


def test_a_caption_behind_the_latents_is_a_caption_beside_them(model: XDecoder, features: Encoded) -> None:
    group = caption_tokens(model, model.language.encode(["a cat under the sky", "a dog"]))
    expected = model.decode(features, [group])[-1]["caption"].word
    said = features.ask(group, past=features.latents.tokens.continued())["caption"].word
    torch.testing.assert_close(said, expected, rtol=1e-4, atol=1e-5)
    again = features.ask(group, past=features.latents.tokens.continued(room=group.content.shape[1]))["caption"].word
    torch.testing.assert_close(again, expected, rtol=1e-4, atol=1e-5)
    assert features.latents.tokens.groups == {"object": 8, "image": 1}, "what goes on from a cache leaves it as it is"


def test_the_table_is_asked_in_training_and_in_prediction(model: XDecoder, features: Encoded) -> None:
    """A caption that may not look at latent queries changes alike however it is decoded."""
    group = caption_tokens(model, model.language.encode(["a cat under the sky", "a dog"]))
    seen, decoder = features.ask(group, past=features.latents.tokens.continued())["caption"].word, model.decoder
    table = decoder.table
    try:
        row = {"caption": table.self_attention["caption"]["caption"]}
        decoder.table = table.model_copy(update={"self_attention": {**table.self_attention, "caption": row}})
        taught = model.decode(features, [group])[-1]["caption"].word
        said = features.ask(group, past=features.latents.tokens.continued())["caption"].word
    finally:
        decoder.table = table
    torch.testing.assert_close(said, taught, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(said, seen, atol=1e-3)


def test_tokens_are_added_one_group_at_a_time(features: Encoded) -> None:
    tokens = TokenCache(len(features.decoder.layers))
    features.ask(*features.decoder.latent_queries(2), past=tokens)
    with pytest.raises(AssertionError, match="one group at a time"):
        features.ask(*features.decoder.latent_queries(2), past=tokens)


def test_features_are_taken_apart_and_put_together(features: Encoded) -> None:
    again = Encoded.stack([features.of(0), features.of(1)])
    assert again.sizes == features.sizes and again.padded == features.padded
    for name in ("mask", "pooled"):
        assert torch.equal(getattr(again, name), getattr(features, name))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(again.maps, features.maps, strict=True))
    assert features.of(1).sizes == (features.sizes[1],)
