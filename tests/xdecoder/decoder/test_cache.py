"""Latents, phrases and answers decoded by themselves against the whole decoder that training uses."""

from __future__ import annotations

import pytest
import torch

from tests.tiny import tiny_batch, tiny_config, tiny_model
from xdecoder.decoder.attention import TokenGroup
from xdecoder.decoder.cache import KeyValueCache, decode_causal, decode_group, latent_outputs, latents
from xdecoder.model import Encoded, XDecoder
from xdecoder.tasks.captioning import caption_tokens
from xdecoder.tasks.referring import word_tokens

PHRASES = ["a cat", "the dog on the right of the small cat", "sky"]


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "published quirks"])
def model(request: pytest.FixtureRequest) -> XDecoder:
    quirky = XDecoder(tiny_config().model_copy(update={"published_quirks": request.param}))
    quirky.load_state_dict(tiny_model().state_dict())
    return quirky.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def features(model: XDecoder) -> Encoded:
    return model.encode(tiny_batch().images)


@pytest.mark.parametrize("keep", [True, False])
def test_latents(model: XDecoder, features: Encoded, keep: bool) -> None:
    expected = model.decode(features)[-1].object_and_image
    memory = KeyValueCache(model, features, exact=model.config.published_quirks, keep=keep)
    rows = latent_outputs(model.decoder, latents(model, memory))
    torch.testing.assert_close(rows.semantic, expected.semantic, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rows.masks(features.mask), expected.masks(features.mask), rtol=1e-4, atol=1e-5)


def test_phrases_asked_together_are_decoded_as_if_alone(model: XDecoder, features: Encoded) -> None:
    texts, one = model.language.encode(PHRASES), features.of(1)
    queries = model.decoder.grounding_queries(len(PHRASES))
    memory = KeyValueCache(model, one, exact=model.config.published_quirks)
    decoded = decode_group(model.decoder, memory, [queries, word_tokens(texts, [[i] for i in range(len(PHRASES))])])
    together = model.decoder.heads.rows(model.decoder.heads.normed(decoded.content)["grounding"])
    for i, phrase in enumerate(PHRASES):
        groups = [model.decoder.grounding_queries(1), word_tokens(model.language.encode([phrase]), [[0]])]
        alone = model.decode(one, groups)[-1].grounding
        assert alone is not None
        torch.testing.assert_close(together.semantic[i], alone.semantic[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together.mask[i], alone.mask[0], rtol=1e-4, atol=1e-5)


def test_each_picture_gets_its_own_questions(model: XDecoder, features: Encoded) -> None:
    """Two phrases about each of two pictures, in one go."""
    texts = model.language.encode(PHRASES)
    memory = KeyValueCache(model, features, exact=model.config.published_quirks)
    asked = [[0], [1], [2], [0]]
    decoded = decode_group(model.decoder, memory, [model.decoder.grounding_queries(4), word_tokens(texts, asked)])
    for row, (image, phrase) in enumerate(zip((0, 0, 1, 1), asked, strict=True)):
        one = KeyValueCache(model, features.of(image), exact=model.config.published_quirks)
        groups = [model.decoder.grounding_queries(1), word_tokens(model.language.encode([PHRASES[phrase[0]]]), [[0]])]
        alone = decode_group(model.decoder, one, groups).content["grounding"]
        torch.testing.assert_close(decoded.content["grounding"][row], alone[0], rtol=1e-4, atol=1e-5)


def test_tokens_that_listen_are_a_captions(model: XDecoder, features: Encoded) -> None:
    group = caption_tokens(model, model.language.encode(["a cat under the sky", "a dog"]))
    expected = model.decode(features, [group])[-1].caption
    memory = KeyValueCache(model, features, exact=model.config.published_quirks)
    keys_values = decode_causal(
        model.decoder, memory, latents(model, memory), TokenGroup("caption", group.content, group.position)
    )
    torch.testing.assert_close(keys_values @ model.decoder.heads.caption, expected, rtol=1e-4, atol=1e-5)


def test_features_are_taken_apart_and_put_together(features: Encoded) -> None:
    again = Encoded.stack([features.of(0), features.of(1)])
    assert again.sizes == features.sizes and again.padded == features.padded
    for name in ("mask", "pooled"):
        assert torch.equal(getattr(again, name), getattr(features, name))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(again.maps, features.maps, strict=True))
    assert features.of(1).sizes == (features.sizes[1],)
