"""Answering against what the published network computed of two questions, from the same weights and maps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from xdecoder.decoder.answers import AnswerConfig, AnswerHead
from xdecoder.decoder.decoder import DecoderConfig
from xdecoder.language.encoder import Texts
from xdecoder.model import Encoded
from xdecoder.published.names import to_ours
from xdecoder.tasks import vqa

ANSWERS = tuple(f"answer {i}" for i in range(64))


@pytest.fixture(scope="module")
def oracle(shared: Path) -> dict[str, Any]:
    return dict(torch.load(shared / "oracle/vqa_tiny.pt", weights_only=True))


@pytest.fixture(scope="module")
def model(oracle: dict[str, Any]) -> Any:
    """Decoder and answer head alone, with the recorded weights."""
    weights = {to_ours(f"sem_seg_head.predictor.{name}"): value for name, value in oracle["weights"].items()}
    config = DecoderConfig(queries=30, layers=4, width=32, heads=4, hidden=64, joint_width=32, caption_length=24)
    decoder = config.build(published_quirks=True).eval()
    head = AnswerHead(AnswerConfig(answers=ANSWERS, masked_latents=False), 32, 24, 4, 64).eval()
    for part, name in ((decoder, "decoder."), (head, "answers.")):
        part.load_state_dict({key.removeprefix(name): value for key, value in weights.items() if key.startswith(name)})
    return SimpleNamespace(decoder=decoder, answers=head)


def encoded(model: Any, oracle: dict[str, Any], rows: slice = slice(None)) -> Encoded:
    mask = oracle["mask_features"][rows]
    coarse, middle, fine = (x[rows] for x in oracle["maps"])
    return Encoded(model.decoder, mask, (coarse, middle, fine), torch.zeros(len(mask), 32), ((64, 96),) * len(mask), (64, 96))


def questions(tokens: Tensor, ends: list[int]) -> Texts:
    nothing = torch.zeros(len(tokens), tokens.shape[1])
    return Texts(nothing.long(), tokens, tokens[:, 0], torch.tensor(ends) + 1, nothing.bool())


@torch.inference_mode()
def read(model: Any, oracle: dict[str, Any], tokens: Tensor, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
    """The token at the end of each question, and the classifier's logits."""
    features, texts = encoded(model, oracle, rows), questions(tokens[rows], oracle["end"][rows])
    past = features.unmasked_latents.tokens.continued()
    end = vqa.at_the_end(features.ask(vqa.question_tokens(model, texts), past=past)["question"].tokens, texts)
    return end, model.answers(end)


def test_the_published_answers(model: Any, oracle: dict[str, Any]) -> None:
    end, logits = read(model, oracle, oracle["question_tokens"])
    torch.testing.assert_close(end, oracle["end_token"], atol=1e-5, rtol=0)
    torch.testing.assert_close(logits, oracle["logits_first64"], atol=1e-5, rtol=0)
    features, texts = encoded(model, oracle), questions(oracle["question_tokens"], oracle["end"])
    with torch.inference_mode():
        said = [each.text for each in vqa.answer(model, features, texts)]
    assert said == [ANSWERS[i] for i in oracle["logits_first64"].argmax(dim=1)]


def test_what_stands_behind_the_end_changes_nothing(model: Any, oracle: dict[str, Any]) -> None:
    changed = oracle["question_tokens"].clone()
    for row, end in enumerate(oracle["end"]):
        changed[row, end + 1 :] += 3.0
    for before, after in zip(read(model, oracle, oracle["question_tokens"]), read(model, oracle, changed), strict=True):
        torch.testing.assert_close(after, before, atol=2e-6, rtol=0)


def test_two_at_once_are_two_one_by_one(model: Any, oracle: dict[str, Any]) -> None:
    end, logits = read(model, oracle, oracle["question_tokens"])
    for row in range(2):
        alone = read(model, oracle, oracle["question_tokens"], slice(row, row + 1))
        torch.testing.assert_close(alone[0][0], end[row], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone[1][0], logits[row], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_latents_that_segmentation_uses_answer_otherwise(model: Any, oracle: dict[str, Any]) -> None:
    """The setting matters: published weights read from masked latent queries would answer something else."""
    features, texts = encoded(model, oracle), questions(oracle["question_tokens"], oracle["end"])
    prediction = features.ask(vqa.question_tokens(model, texts), past=features.latents.tokens.continued())
    assert (model.answers(vqa.at_the_end(prediction["question"].tokens, texts)) - oracle["logits_first64"]).abs().max() > 1e-3
