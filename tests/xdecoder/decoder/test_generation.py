"""Captions written word by word against decoding everything anew for each word, and beam search against all there is."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from tests.tiny import tiny_batch, tiny_model
from xdecoder.decoder.generation import GenerationConfig, forbid_repeats, generate
from xdecoder.model import Encoded, XDecoder
from xdecoder.tasks.captioning import caption_tokens


@pytest.fixture(scope="module")
def model() -> XDecoder:
    """Its weights are made larger, so that it does not write the same word over and over."""
    model = tiny_model().requires_grad_(False)
    for parameter in model.language.parameters():
        parameter *= 3
    for name, parameter in model.decoder.layers.named_parameters():
        parameter *= 3 if "attention" in name else 1
    model.decoder.caption_position.weight *= 50
    return model


@pytest.fixture(scope="module")
def features(model: XDecoder) -> Encoded:
    return model.encode(tiny_batch().images)


def written(model: XDecoder, features: Encoded, region: Tensor | None = None, **settings: float) -> Tensor:
    return generate(model, features, GenerationConfig(**settings), region)


def all_logits(model: XDecoder, features: Encoded, ids: Tensor, region: Tensor | None = None) -> Tensor:
    """Of the next word at each place, (B, n, V), by one pass of everything."""
    caption = model.decode(features, [caption_tokens(model, model.language.encode_ids(ids), region)])[-1]["caption"].word
    return caption @ model.language.token_embedding.weight.T


@pytest.mark.parametrize("with_region", [False, True])
def test_greedy_words_are_those_of_the_whole_decoder(model: XDecoder, features: Encoded, with_region: bool) -> None:
    region = None
    if with_region:
        region = torch.zeros(2, 64, 96, dtype=torch.bool)
        region[0, :32], region[1, 16:, 40:] = True, True
    ids = written(model, features, region, max_length=20)
    assert len({*ids.flatten().tolist()}) > 5, "a test of words needs words"
    logits = all_logits(model, features, ids[:, :-1], region)
    assert torch.equal(logits.argmax(dim=-1), ids[:, 1:])
    if with_region:
        assert not torch.equal(ids, written(model, features, max_length=20))


def test_it_stops_when_all_have_come_to_their_end(model: XDecoder, features: Encoded, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = written(model, features, max_length=20)
    last = [next(i for i in range(2, 21) if row[i] not in row[:i]) for row in ids.tolist()]
    # The word that either caption comes to first is made its end.
    for row, place in enumerate(last):
        monkeypatch.setattr(model.language.tokenizer, "end", ids[row, place].item())
        alone = written(model, features.of(row), max_length=20)
        assert alone.tolist() == [ids[row, : place + 1].tolist()]
    both = written(model, features, max_length=20)
    assert torch.equal(both, ids[:, : both.shape[1]])


def test_captions_have_room(model: XDecoder, features: Encoded) -> None:
    assert written(model, features, max_length=500).shape[1] <= model.config.decoder.caption_length


def best_of_all(model: XDecoder, features: Encoded, max_length: int, penalty: float, closed: Tensor) -> list[int]:
    """The likeliest caption over the words that are not closed, found by trying every one."""
    start, end = model.language.tokenizer.start, model.language.tokenizer.end
    words = (closed == 0).nonzero().flatten().tolist()
    best, best_score = [], float("-inf")
    for length in range(1, max_length + 1):
        for tail in itertools.product([w for w in words if w != end], repeat=length - 1):
            for last in words if length == max_length else [end]:
                ids = torch.tensor([[start, *tail, last]])
                likely = (all_logits(model, features, ids[:, :-1]) + closed).log_softmax(-1)
                score = likely.gather(2, ids[:, 1:, None]).sum().item() / length**penalty
                if score > best_score:
                    best, best_score = [start, *tail, *([last] if last != end else [])], score
    return best


def test_wide_beams_find_the_best_caption_of_all(model: XDecoder, features: Encoded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over three words and the end, with beams for all there is; greedy and the penalty lead elsewhere."""
    closed = torch.full((model.language.tokenizer.vocab_size,), float("-inf"))
    closed[[7, 20, 300, model.language.tokenizer.end]] = 0
    monkeypatch.setattr("xdecoder.decoder.generation.forbid_repeats", lambda logits, ids, length: logits + closed)
    found = []
    for image in range(2):
        for penalty in (0.0, 1.0, 2.0):
            ids = written(model, features.of(image), max_length=3, beams=27, length_penalty=penalty)[0].tolist()
            assert ids == best_of_all(model, features.of(image), 3, penalty, closed), (image, penalty)
            found.append(ids)
    assert len({tuple(ids) for ids in found}) > 1


def test_beams_of_several_pictures_do_not_mix(model: XDecoder, features: Encoded) -> None:
    together = written(model, features, max_length=12, beams=3, no_repeat_ngram_size=2)
    for row in range(2):
        alone = written(model, features.of(row), max_length=12, beams=3, no_repeat_ngram_size=2)[0]
        assert torch.equal(together[row, : len(alone)], alone)
    assert not torch.equal(together[0], together[1])


def score(model: XDecoder, features: Encoded, ids: Tensor) -> Tensor:
    likely = all_logits(model, features, ids[:, :-1]).log_softmax(-1)
    return likely.gather(2, ids[:, 1:, None]).sum(dim=(1, 2))


def test_beams_are_no_worse_than_greedy(model: XDecoder, features: Encoded) -> None:
    greedy, beams = (written(model, features, max_length=8, beams=beams) for beams in (1, 8))
    assert (score(model, features, beams) >= score(model, features, greedy) - 1e-4).all()


def test_no_run_is_written_twice(model: XDecoder, features: Encoded) -> None:
    for beams in (1, 3):
        for length in (1, 2, 3):
            for row in written(model, features, max_length=20, beams=beams, no_repeat_ngram_size=length).tolist():
                runs = [tuple(row[i : i + length]) for i in range(1, len(row) - length + 1)]
                kept = [run for run in runs if model.language.tokenizer.end not in run]
                assert len(set(kept)) == len(kept)


def test_what_is_forbidden() -> None:
    ids = torch.tensor([[0, 5, 6, 7, 5, 6], [0, 1, 2, 3, 4, 5]])
    for length, expected in ((0, []), (1, [5, 6, 7]), (2, [7]), (3, [7]), (4, [])):
        logits = forbid_repeats(torch.zeros(2, 10), ids, length)
        assert logits[0].isinf().nonzero().flatten().tolist() == expected, length
        assert logits[1].isinf().sum() == (5 if length == 1 else 0)
