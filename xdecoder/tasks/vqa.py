"""Answering questions about a picture: its tokens take a caption's place in the decoder, and the last one chooses an answer."""

from __future__ import annotations

import torch

from xdecoder.attention import TokenGroup
from xdecoder.heads import AnswerHead
from xdecoder.inference import Memory, Settled, listen
from xdecoder.language.encoder import Texts
from xdecoder.model import XDecoder


def head_of(model: XDecoder) -> AnswerHead:
    """The network's answer head; raises ValueError if it has none."""
    if model.answers is None:
        raise ValueError("this network cannot answer questions: its checkpoint holds no answer head (model.answers)")
    return model.answers


def answer(model: XDecoder, memory: Memory, latents: Settled, questions: Texts) -> list[tuple[str, float]]:
    """The likeliest answer to one question about each picture, and how likely it is.

    Content of the tokens is the head's own; where in the question they stand, and what is asked there, is their position.
    """
    head, decoder = head_of(model), model.decoder
    length = questions.tokens.shape[1]
    if length > decoder.caption_position.num_embeddings:
        raise ValueError(f"a question may have {decoder.caption_position.num_embeddings} tokens, not {length}")
    content = head.query_content.weight[:length].expand(len(questions), -1, -1).to(memory.features.mask.dtype)
    position = questions.tokens.to(content.dtype) + decoder.caption_position.weight[:length]
    heard = listen(decoder, memory, latents, TokenGroup("caption", content, position))
    ends = heard[torch.arange(len(questions), device=heard.device), questions.lengths - 1]
    likely, best = head(ends.to(head.query_content.weight.dtype)).softmax(dim=-1).max(dim=-1)
    return [(head.config.answers[i], score) for i, score in zip(best.tolist(), likely.tolist(), strict=True)]
