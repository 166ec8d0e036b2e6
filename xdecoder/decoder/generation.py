"""Writing captions word by word. Nothing is computed twice: neither latent queries nor earlier words change with a new one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from xdecoder.config import Config
from xdecoder.decoder.attention import TokenGroup
from xdecoder.model import Encoded, XDecoder
from xdecoder.network import check_finite
from xdecoder.ops.linear import linear

WORDS = "a word's score"


class GenerationConfig(Config):
    """How captions are written."""

    max_length: int = Field(50, ge=1)
    """Longest caption, in tokens."""
    beams: int = Field(1, ge=1)
    """Captions that are pursued side by side; 1 takes the likeliest word each time (published; the paper's scores: 5)."""
    length_penalty: float = 1.0
    """Beams are compared by log-probability over length to this power; larger prefers longer captions."""
    no_repeat_ngram_size: int = Field(0, ge=0)
    """No run of this many tokens is written twice; 0 allows it."""


def generate(
    model: XDecoder,
    images: Encoded,
    config: GenerationConfig,
    region: Tensor | None = None,
    names: Sequence[object] = (),
) -> Tensor:
    """Captions as token numbers (B, 1 + max_length), start token first; shorter when all have come to their end.

    Args:
        images: B encoded images.
        region: (B, H, W) bool over the padded input: where the caption's tokens look; None = everywhere.
        names: what the B are called in messages.

    Raises:
        ValueError: for a network that writes none, or whose words have scores that are not finite.
    """
    length = model.config.decoder.caption_length
    if length is None:
        raise ValueError("this network writes no captions; an X-Decoder does")
    longest = min(length, model.language.config.context_length) - 1
    max_length = min(config.max_length, longest)
    generator = CaptionGenerator(model, images, max_length, config.beams, region)
    if config.beams > 1:
        return _search(generator, config, max_length, names)
    return _greedy(generator, config, max_length, names)


class CaptionGenerator:
    """The state of B·R captions, R for each of B images, and what their next words may be."""

    def __init__(self, model: XDecoder, images: Encoded, max_length: int, rows: int = 1, region: Tensor | None = None) -> None:
        self.model, self.images, self.rows = model, images, rows
        self.texts = model.language.text_cache(rows * len(images), max_length)
        self.tokens = images.latents.tokens.continued(rows, max_length)
        self.region = None if region is None else region[:, None].repeat_interleave(rows, dim=0)

    @property
    def start(self) -> Tensor:
        """The first token of each caption, (B·R,)."""
        tokenizer = self.model.language.tokenizer
        return torch.full((len(self.images) * self.rows,), tokenizer.start, device=self.images.mask.device)

    def next(self, ids: Tensor) -> Tensor:
        """Logits (B·R, V) of what follows the words `ids` (B·R,), which are appended."""
        place = self.model.decoder.caption_position.weight[self.texts.length]
        read = self.model.language.read_on(ids[:, None], self.texts).to(place.dtype)
        said = self.images.ask(TokenGroup("caption", read, read + place, mask=self.region), past=self.tokens)["caption"]
        words = self.model.language.token_embedding.weight
        return linear(said.word[:, 0].to(words.dtype), words)

    def follow(self, rows: Tensor) -> None:
        """Caption i goes on from what caption rows[i] was, (B·R,)."""
        for cache in (*self.texts.keys, *self.texts.values):
            written = cache[:, :, : self.texts.length]
            written.copy_(written[rows])
        self.tokens.follow(rows, self.texts.length)


def _greedy(generator: CaptionGenerator, config: GenerationConfig, max_length: int, names: Sequence[object]) -> Tensor:
    end = generator.model.language.tokenizer.end
    ids = generator.start[:, None]
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    surest = torch.zeros(len(ids), device=ids.device)
    for _ in range(max_length):
        logits = forbid_repeats(generator.next(ids[:, -1]), ids, config.no_repeat_ngram_size)
        score, word = logits.max(dim=-1)  # a score that is not a number is the greatest
        surest = surest + score
        ids = torch.cat((ids, word[:, None]), dim=1)
        ended |= word == end
        if ended.all():
            break
    check_finite(surest[:, None], names, WORDS)
    return ids


@dataclass
class _Finished:
    """The best caption of a picture that has come to its end."""

    score: float = float("-inf")
    ids: tuple[int, ...] = ()


def _search(generator: CaptionGenerator, config: GenerationConfig, max_length: int, names: Sequence[object]) -> Tensor:
    """Beam search: of all continuations of a picture's captions the likeliest are pursued."""
    end, images, beams = generator.model.language.tokenizer.end, len(generator.images), generator.rows
    ids = generator.start[:, None]
    likely = torch.full((images, beams), float("-inf"), device=ids.device)
    likely[:, 0] = 0  # all beams begin alike: only one of them counts
    best = [_Finished() for _ in range(images)]
    for step in range(1, max_length + 1):
        logits = forbid_repeats(generator.next(ids[:, -1]), ids, config.no_repeat_ngram_size)
        every = likely[..., None] + logits.float().log_softmax(dim=-1).unflatten(0, (images, beams))  # (B, R, V)
        # Twice as many as are pursued: each beam may end, and still there are enough to go on.
        values, flat = every.flatten(1).topk(min(2 * beams, every[0].numel()))
        check_finite(values[:, :1], names, WORDS)
        beam, word = flat // every.shape[2], flat % every.shape[2]
        ended = word == end
        _finish(best, ended[:, :beams], values / step**config.length_penalty, ids.unflatten(0, (images, beams)), beam)
        likely, chosen = values.masked_fill(ended, float("-inf")).topk(beams)
        rows = beam.gather(1, chosen) + torch.arange(images, device=ids.device)[:, None] * beams
        ids = torch.cat((ids[rows.flatten()], word.gather(1, chosen).reshape(-1, 1)), dim=1)
        # What goes on can only lose probability; with a positive penalty a longer caption divides it by more.
        reach = likely[:, 0] / (max_length if config.length_penalty > 0 else step) ** config.length_penalty
        if all(done.score >= hope for done, hope in zip(best, reach.tolist(), strict=True)):
            break
        generator.follow(rows.flatten())
    else:
        nobody = torch.zeros(images, beams, dtype=torch.bool, device=ids.device)
        nobody[:, 0] = True
        first = torch.zeros(images, beams, dtype=torch.long, device=ids.device)
        _finish(best, nobody, likely / max_length**config.length_penalty, ids.unflatten(0, (images, beams)), first)
    longest = max(len(done.ids) for done in best)
    padded = [[*done.ids, *[end] * (longest - len(done.ids))] for done in best]
    return torch.tensor(padded, device=ids.device)


def _finish(best: list[_Finished], ended: Tensor, scores: Tensor, ids: Tensor, beam: Tensor) -> None:
    """Keep a picture's caption that has ended if it beats the one before; ended: (B, R), scores and beam: (B, ≥ R)."""
    for b, place in ended.nonzero().tolist():
        score = scores[b, place].item()
        if score > best[b].score:
            best[b].score, best[b].ids = score, tuple(ids[b, beam[b, place]].tolist())


def forbid_repeats(logits: Tensor, ids: Tensor, length: int) -> Tensor:
    """Logits (R, V) in which no word completes a run of `length` tokens that stands in ids (R, n) already; 0 = as they are."""
    if length < 1 or ids.shape[1] <= length:
        return logits
    runs = ids[:, 1:].unfold(1, length, 1)  # (R, runs, length); the start token is no word
    same = (runs[:, :, :-1] == ids[:, None, ids.shape[1] - length + 1 :]).all(dim=2)
    banned = torch.zeros_like(logits, dtype=torch.bool)
    row, run = same.nonzero(as_tuple=True)
    banned[row, runs[row, run, -1]] = True
    return logits.masked_fill(banned, float("-inf"))
