"""CLIP's byte-pair encoding, at full size or cut to a smaller table."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as _Pipeline
from torch import Tensor

ALL_MERGES = 48_894
_START, _END, _WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


class Tokenizer:
    """Text to ids and back (Radford et al. 2021, section 2.4).

    Args:
        merges: how many of CLIP's 48 894 merges to use. With all of them the ids are CLIP's; with fewer, words fall into
            more and shorter pieces, and any text can still be written with a table of 512 + merges + 2 ids.
        context_length: the most ids a text may have, start and end included.
    """

    def __init__(self, merges: int = ALL_MERGES, context_length: int = 77) -> None:
        if not 0 <= merges <= ALL_MERGES:
            raise ValueError(f"merges must lie between 0 and {ALL_MERGES}, not {merges}")
        if context_length < 2:
            raise ValueError(f"context_length must leave room for the start and the end token, {context_length} does not")
        self.context_length = context_length
        self.vocab_size = 512 + merges + 2
        self.start = self.vocab_size - 2
        self.end = self.vocab_size - 1
        self._pipeline = _pipeline(_read_merges(merges))

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Ids (T, n) int64: start, text, end, then `end` again up to the longest text of this call.

        A text longer than the context is cut; its last id is still `end`.
        """
        room = self.context_length - 2
        # One by one: the library's batch call starts threads, which it then complains about in forked data workers.
        rows = [[self.start, *self._pipeline.encode(text).ids[:room], self.end] for text in texts]
        longest = max(map(len, rows), default=2)
        padded = [row + [self.end] * (longest - len(row)) for row in rows]
        return torch.tensor(padded, dtype=torch.int64).reshape(len(rows), longest)

    def words(self, texts: Sequence[str]) -> int:
        """How many tokens come behind the start tokens, `end` included, as `encode` would cut the texts."""
        return sum(min(len(self._pipeline.encode(text).ids), self.context_length - 2) + 1 for text in texts)

    def split(self, ids: Sequence[int]) -> list[tuple[int, ...]]:
        """The ids of each word of a text; where there is a start or an end token, a word of none."""
        words: list[tuple[int, ...]] = []
        word: tuple[int, ...] = ()
        for id in ids:
            ends = id in (self.start, self.end)
            if ends or self._ends_word(id):
                words += [(*word, id)] if not ends else [word] * bool(word) + [()]
                word = ()
            else:
                word = (*word, id)
        return [*words, word] if word else words

    def _ends_word(self, id: int) -> bool:
        symbol = self._pipeline.id_to_token(id)
        return symbol is not None and symbol.endswith(_WORD_END)

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """The text of one row of ids, shape (n,), up to its first `end`; start tokens are skipped."""
        row = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        if self.end in row:
            row = row[: row.index(self.end)]
        text = self._pipeline.decode([i for i in row if i != self.start])
        return text.replace(_WORD_END, " ").strip()


def _pipeline(merges: list[tuple[str, str]]) -> _Pipeline:
    letters = list(_byte_letters())
    symbols = [*letters, *(letter + _WORD_END for letter in letters), *(a + b for a, b in merges), _START, _END]
    table = {symbol: i for i, symbol in enumerate(symbols)}
    pipeline = _Pipeline(models.BPE(vocab=table, merges=merges, end_of_word_suffix=_WORD_END, unk_token=_END))
    pipeline.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pipeline.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    pipeline.decoder = decoders.ByteLevel()
    pipeline.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in (_START, _END)])
    return pipeline


def _byte_letters() -> str:
    """The letter that stands for each byte, in CLIP's order: printable bytes as themselves first, then the others."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return "".join(map(chr, printable)) + "".join(chr(256 + i) for i in range(256 - len(printable)))


def _read_merges(count: int) -> list[tuple[str, str]]:
    with gzip.open(_merges_file(), "rt", encoding="utf-8") as lines:
        pairs = [tuple(line.split()) for line in islice(lines, 1, count + 1)]  # the first line is a heading
    return [(a, b) for a, b in pairs]


def _merges_file() -> Path:
    """CLIP's merge table, which the package open_clip_torch carries as a data file; the package itself is not imported."""
    package = find_spec("open_clip")
    folder = Path(package.origin).parent if package and package.origin else None
    path = folder / "bpe_simple_vocab_16e6.txt.gz" if folder else None
    if path is None or not path.is_file():
        raise ValueError("CLIP's merge table was not found: install the package open_clip_torch, which carries it")
    return path
