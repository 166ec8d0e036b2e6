"""Writing captions word by word. Nothing is computed twice: neither latent queries nor earlier words change with a new one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from xdecoder.config import Config
from xdecoder.decoder.attention import everywhere
from xdecoder.decoder.cache import Decoded, KeyValueCache
from xdecoder.decoder.decoder import DecoderLayer
from xdecoder.model import XDecoder
from xdecoder.ops.linear import linear


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
    model: XDecoder, memory: KeyValueCache, latents: Decoded, config: GenerationConfig, region: Tensor | None = None
) -> Tensor:
    """Captions as token numbers (B, 1 + max_length), start token first; shorter when all have come to their end.

    Args:
        region: (B, H, W) bool over the padded canvas: where the caption's tokens look; None = everywhere.
    """
    decoder = model.config.decoder
    max_length = min(config.max_length, decoder.caption_length - 1, model.language.config.context_length - 1)
    if config.beams > 1:
        return _search(CaptionGenerator(model, memory, latents, max_length, config.beams, region), config, max_length)
    return _greedy(CaptionGenerator(model, memory, latents, max_length, 1, region), config, max_length)


class CaptionGenerator:
    """The state of R·B captions, R for each of B pictures, and what their next words may be."""

    def __init__(
        self, model: XDecoder, memory: KeyValueCache, latents: Decoded, max_length: int, rows: int, region: Tensor | None = None
    ) -> None:
        self.model, self.memory = model, memory
        self.images, self.rows = len(memory), rows
        self.texts = model.language.text_cache(rows * len(memory), max_length)
        self.fixed = latents.keys_values[0][0].shape[2] if latents.keys_values else 0  # latent tokens, which all captions hear
        self.keys_values = [tuple(self._with_room(x, max_length) for x in pair) for pair in latents.keys_values]
        layers = range(len(model.decoder.layers))
        self.visible = [_visible(region, memory.size(layer), rows) for layer in layers]

    @property
    def start(self) -> Tensor:
        tokenizer = self.model.language.tokenizer
        return torch.full((self.images * self.rows,), tokenizer.start, device=self.memory.features.mask.device)

    def next(self, ids: Tensor) -> Tensor:
        """Logits (R·B, V) of what follows the words `ids` (R·B,), which are appended."""
        decoder, place = self.model.decoder, self.texts.length
        read = self.model.language.read_on(ids[:, None], self.texts)
        tokens = read.to(decoder.caption_position.weight.dtype)
        position = tokens + decoder.caption_position.weight[place]
        end = self.fixed + place + 1
        for i, (layer, (keys, values)) in enumerate(zip(decoder.layers, self.keys_values, strict=True)):
            assert isinstance(layer, DecoderLayer)
            tokens = layer.cross_attend_cached(tokens, position, self.memory.seen(i), self.visible[i])
            placed = tokens + position
            keys[:, :, end - 1 : end], values[:, :, end - 1 : end] = layer.self_attention.project(placed, tokens)
            tokens = layer.take_in(tokens, layer.self_attention.read(placed, keys[:, :, :end], values[:, :, :end]))
        said = decoder.heads.normed({"caption": tokens})["caption"][:, 0] @ decoder.heads.caption
        words = self.model.language.token_embedding.weight
        return linear(said.to(words.dtype), words)

    def follow(self, rows: Tensor) -> None:
        """Caption i goes on from what caption rows[i] was, (R·B,)."""
        written = self.texts.length
        text = [x[:, :, :written] for x in (*self.texts.keys, *self.texts.values)]
        spoken = [x[:, :, self.fixed : self.fixed + written] for pair in self.keys_values for x in pair]
        for cache in (*text, *spoken):
            cache.copy_(cache[rows])

    def _with_room(self, keys_values: Tensor, max_length: int) -> Tensor:
        """What captions hear of the latent tokens, with room for their own behind: (R·B, heads, Q + max_length, C / heads)."""
        repeated = keys_values.repeat_interleave(self.rows, dim=0)
        return torch.cat((repeated, repeated.new_empty(*repeated.shape[:2], max_length, repeated.shape[3])), dim=2)


def _visible(region: Tensor | None, size: tuple[int, int], rows: int) -> Tensor | None:
    if region is None:
        return None
    return everywhere(1, size, region[:, None]).repeat_interleave(rows, dim=0)


def _greedy(generator: CaptionGenerator, config: GenerationConfig, max_length: int) -> Tensor:
    end = generator.model.language.tokenizer.end
    ids = generator.start[:, None]
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    for _ in range(max_length):
        logits = forbid_repeats(generator.next(ids[:, -1]), ids, config.no_repeat_ngram_size)
        word = logits.argmax(dim=-1)
        ids = torch.cat((ids, word[:, None]), dim=1)
        ended |= word == end
        if ended.all():
            break
    return ids


@dataclass
class _Finished:
    """The best caption of a picture that has come to its end."""

    score: float = float("-inf")
    ids: tuple[int, ...] = ()


def _search(generator: CaptionGenerator, config: GenerationConfig, max_length: int) -> Tensor:
    """Beam search: of all continuations of a picture's captions the likeliest are pursued."""
    end, images, beams = generator.model.language.tokenizer.end, generator.images, generator.rows
    ids = generator.start[:, None]
    likely = torch.full((images, beams), float("-inf"), device=ids.device)
    likely[:, 0] = 0  # all beams begin alike: only one of them counts
    best = [_Finished() for _ in range(images)]
    for step in range(1, max_length + 1):
        logits = forbid_repeats(generator.next(ids[:, -1]), ids, config.no_repeat_ngram_size)
        every = likely[..., None] + logits.float().log_softmax(dim=-1).unflatten(0, (images, beams))  # (B, R, V)
        # Twice as many as are pursued: each beam may end, and still there are enough to go on.
        values, flat = every.flatten(1).topk(min(2 * beams, every[0].numel()))
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
