"""The text encoder: a causal transformer whose output at a text's end stands for the text (CLIP; section 3.1 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from xdecoder.config import Config
from xdecoder.language.prompts import TEMPLATES, fill, random_prompt
from xdecoder.language.tokenizer import ALL_MERGES, Tokenizer
from xdecoder.ops.linear import Linear

Prompting = Literal["ensemble", "random", "none"]
Self = TypeVar("Self", bound="LanguageEncoder")

_BATCH = 256  # texts a pass when a vocabulary is encoded
_PASS = 48  # and when it is learnt
_MANY = 16  # names from which on texts are sorted by template
_REMEMBERED = 20_000  # names whose vectors are kept


class LanguageConfig(Config):
    """The text encoder; the defaults are the published one."""

    merges: int = Field(ALL_MERGES, ge=0, le=ALL_MERGES)
    """How many of CLIP's byte-pair merges to use; the table of words has 514 rows more."""
    context_length: int = Field(77, ge=3)
    """Most tokens of a text, start and end included; longer texts are cut."""
    width: int = Field(512, gt=0)
    """Size of a token inside the encoder."""
    heads: int = Field(8, gt=0)
    """Attention heads; must divide the width."""
    layers: int = Field(12, ge=0)
    """Transformer blocks."""
    output_width: int = Field(512, gt=0)
    """Size D of the joint space of pictures and texts."""
    initial_logit_scale: float = 1.0
    """Logarithm of the factor on cosines before training."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> LanguageConfig:
        if self.width % self.heads:
            raise ValueError(f"language.width ({self.width}) must be a multiple of language.heads ({self.heads})")
        return self


@dataclass(frozen=True)
class Texts:
    """Encoded texts, cut to the longest of them: T texts of n tokens."""

    ids: Tensor  # (T, n) int64
    tokens: Tensor  # (T, n, D) output of every token, in the joint space
    vectors: Tensor  # (T, D) output at the first end token, not normalised
    lengths: Tensor  # (T,) int64, start and end token included
    present: Tensor  # (T, n) bool, False behind the first end token

    def __len__(self) -> int:
        return self.ids.shape[0]

    def every(self, nth: int) -> Texts:
        """The first text, and every nth behind it."""
        if nth == 1:
            return self
        return Texts(*(getattr(self, field.name)[::nth] for field in fields(self)))


@dataclass
class TextCache:
    """What attention remembers of R texts that are read piece by piece, per block (R, heads, length, width / heads)."""

    keys: list[Tensor]
    values: list[Tensor]
    length: int = 0  # tokens read so far


class LanguageEncoder(nn.Module):
    """Texts to token outputs and vectors of the joint space.

    `token_embedding` doubles as the captioner's output table. `logit_scale` is the logarithm of the factor on cosines.
    """

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = Tokenizer(config.merges, config.context_length)
        self.token_embedding = nn.Embedding(self.tokenizer.vocab_size, config.width)
        self.position_embedding = nn.Parameter(torch.empty(config.context_length, config.width))
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.layers))
        self.final_norm = nn.LayerNorm(config.width, eps=1e-12)
        self.projection = nn.Parameter(torch.empty(config.width, config.output_width))
        self.logit_scale = nn.Parameter(torch.tensor(config.initial_logit_scale))
        self._known: dict[tuple[Prompting, str], Tensor] = {}
        self._known_of: tuple[int, ...] = ()
        self._initialise()

    def forward(self, texts: Sequence[str]) -> Texts:
        """Encode texts as they stand, without templates; as many as fit into memory at once."""
        ids = self.tokenizer.encode(texts).to(self.projection.device)
        return self.encode_ids(ids)

    def encode(self, texts: Sequence[str]) -> Texts:
        """The same as calling the module."""
        return self(texts)

    def vocabulary(
        self, names: Sequence[str], templates: Prompting = "ensemble", generator: torch.Generator | None = None
    ) -> Tensor:
        """Unit vectors (C, D) of class names.

        Args:
            names: C class names; COCO's suffixes such as "-merged" are left out of templates' sentences.
            templates: "ensemble" averages the unit vectors of all 81 templates, without gradient and in full precision;
                "random" draws one template a name, with gradient; "none" encodes the names as they stand, with gradient.
            generator: CPU generator for "random"; torch's default one if None.

        In eval mode, what has no gradient is remembered name by name until a parameter changes, the module is moved or cast,
        or `train()` is called; in training mode it is computed anew, since fused optimisers change parameters unnoticed by
        autograd. Memory grows with the names by their vectors only.
        """
        if templates == "ensemble" or (templates == "none" and not self.training and not torch.is_grad_enabled()):
            return self._remembered(names, templates)
        texts = [random_prompt(name, generator) for name in names] if templates == "random" else names
        return _unit(torch.cat([self(texts[i : i + _BATCH]).vectors for i in range(0, max(len(texts), 1), _BATCH)]))

    def train(self: Self, mode: bool = True) -> Self:
        """As of any module; training mode also forgets the remembered names."""
        if mode:
            self._known.clear()
        return super().train(mode)

    def encode_ids(self, ids: Tensor) -> Texts:
        """Encode token numbers (T, n); n may be shorter than the context, since no token looks at later ones.

        A row without an end token is a text still being written: its last token stands for it.
        """
        n = ids.shape[1]
        ends = ids == self.tokenizer.end
        last = torch.where(ends.any(dim=1), ends.int().argmax(dim=1), n - 1)
        tokens = self._outputs(self.token_embedding(ids) + self.position_embedding[:n], last + 1)
        return Texts(
            ids=ids,
            tokens=tokens,
            vectors=tokens[torch.arange(len(ids), device=ids.device), last],
            lengths=last + 1,
            present=torch.arange(n, device=ids.device) <= last[:, None],
        )

    def _outputs(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Outputs (T, n, D) of embedded tokens (T, n, C).

        When many texts are learnt from, those of like length share a pass, since what stands behind a text's end costs time
        and memory for nothing; its outputs are then zeros.
        """
        if self.training and len(x) > _PASS:
            order = lengths.argsort()
            parts = [(rows, int(lengths[rows[-1]])) for rows in order.split(_PASS)]
            outputs = [F.pad(self._outputs(x[rows, :n], lengths[rows]), (0, 0, 0, x.shape[1] - n)) for rows, n in parts]
            return torch.cat(outputs)[order.argsort()]
        for block in self.blocks:
            x = block(x)
        return self.final_norm(x) @ self.projection

    def read_on(self, ids: Tensor, cache: TextCache) -> Tensor:
        """Outputs (R, m, D) of the next tokens (R, m) of R texts whose earlier ones `cache` holds, as of `encode_ids`."""
        length, count = cache.length, ids.shape[1]
        x = self.token_embedding(ids) + self.position_embedding[length : length + count]
        visible = None
        if count > 1:
            visible = torch.ones(count, length + count, dtype=torch.bool, device=ids.device).tril(diagonal=length)
        for block, keys, values in zip(self.blocks, cache.keys, cache.values, strict=True):
            assert isinstance(block, Block)
            x = block.extend(x, keys, values, length, visible)
        cache.length += count
        return self.final_norm(x) @ self.projection

    def text_cache(self, rows: int, length: int) -> TextCache:
        """Room for R texts of up to `length` tokens that are read piece by piece."""
        size = (rows, self.config.heads, length, self.config.width // self.config.heads)
        keys, values = ([self.projection.new_empty(size) for _ in self.blocks] for _ in range(2))
        return TextCache(keys, values)

    def encode_ends(self, ids: Tensor) -> Tensor:
        """Vectors (T, D) of complete texts (T, n); what all of them begin with is read once."""
        alike = (ids == ids[0]).all(dim=0)
        shared = min(int(alike.int().cumprod(dim=0).sum()), ids.shape[1] - 1)
        first = self.text_cache(1, shared)
        self.read_on(ids[:1, :shared], first)
        cache = self.text_cache(len(ids), ids.shape[1])
        for whole, beginning in zip((*cache.keys, *cache.values), (*first.keys, *first.values), strict=True):
            whole[:, :, :shared] = beginning
        cache.length = shared
        tokens = self.read_on(ids[:, shared:], cache)
        ends = (ids[:, shared:] == self.tokenizer.end).int().argmax(dim=1)
        return tokens[torch.arange(len(ids), device=ids.device), ends]

    @torch.no_grad()
    def meanings(self, ids: Tensor) -> Tensor:
        """Unit vectors (T, n, D) of the words of texts (T, n), each as if it were a text by itself; all tokens of a word have
        its vector, tokens at the start and the end that of a text without words."""
        places: dict[tuple[int, ...], int] = {}
        rows = []
        for row in ids.tolist():
            words = self.tokenizer.split(row)
            rows.append([places.setdefault(word, len(places)) for word in words for _ in word or (None,)])
        longest = max(map(len, places))
        alone = [[self.tokenizer.start, *word, *[self.tokenizer.end] * (longest + 1 - len(word))] for word in places]
        vectors = _unit(self.encode_ends(torch.tensor(alone, device=ids.device)))
        return vectors[torch.tensor(rows, device=ids.device)]

    def _remembered(self, names: Sequence[str], templates: Prompting) -> Tensor:
        state = self._state()
        if self.training or state != self._known_of or len(self._known) > _REMEMBERED:
            self._known.clear()
            self._known_of = state
        missing = [name for name in dict.fromkeys(names) if (templates, name) not in self._known]
        for some in (missing[i : i + _BATCH] for i in range(0, len(missing), _BATCH)):
            self._known.update(zip(((templates, name) for name in some), self._encode_names(some, templates), strict=True))
        if not names:
            return self.projection.new_empty(0, self.config.output_width)
        return torch.stack([self._known[templates, name] for name in names])

    def _encode_names(self, names: Sequence[str], templates: Prompting) -> Tensor:
        """Mean of the unit vectors of all templates, or of the bare name, a unit vector again: (C, D)."""
        ensemble = templates == "ensemble"
        texts = [fill(name, template) for name in names for template in TEMPLATES] if ensemble else list(names)
        lengths = list(map(len, texts))
        groups = [range(len(texts))]
        if ensemble and len(names) >= _MANY:  # the texts of one template begin alike
            groups = [range(i, len(texts), len(TEMPLATES)) for i in range(len(TEMPLATES))]
        # Remembered vectors must serve in training too, hence never as tensors of inference mode.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(self.projection.device.type, enabled=False):
            vectors = self.projection.new_empty(len(texts), self.config.output_width)
            for group in groups:
                # Texts of one length share a batch, so that hardly any padding is computed.
                order = sorted(group, key=lengths.__getitem__)
                for batch in (order[i : i + _BATCH] for i in range(0, len(order), _BATCH)):
                    ids = self.tokenizer.encode([texts[i] for i in batch]).to(self.projection.device)
                    vectors[batch] = _unit(self.encode_ends(ids))
            return _unit(vectors.unflatten(0, (len(names), -1)).mean(dim=1))

    def _state(self) -> tuple[int, ...]:
        """Differs whenever a parameter was replaced, or written in place with autograd's knowledge."""
        return tuple(number for p in self.parameters() for number in (p.data_ptr(), 0 if p.is_inference() else p._version))

    def _initialise(self) -> None:
        """CLIP's: deviations fall with width, and with depth where a branch joins the residual stream."""
        width, layers = self.config.width, max(self.config.layers, 1)
        # The table also scores the next word, where only its product with normed outputs counts: as large at any width.
        nn.init.normal_(self.token_embedding.weight, std=0.02 * 512 / width)
        nn.init.normal_(self.position_embedding, std=0.01 * 512 / width)
        nn.init.normal_(self.projection, std=width**-0.5)
        for block in self.blocks:
            assert isinstance(block, Block)
            block.initialise(branch_scale=(2 * layers) ** -0.5)


class Block(nn.Module):
    """Pre-norm transformer block: causal attention, then an MLP four times as wide."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-12)
        self.attention = CausalAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-12)
        self.mlp = QuickMlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """(T, n, C) tokens of T texts → the same shape."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def extend(self, x: Tensor, keys: Tensor, values: Tensor, length: int, visible: Tensor | None) -> Tensor:
        """More tokens (R, m, C) behind the `length` ones that keys and values hold, to which their own are added.

        visible: (m, length + m) bool, None = all.
        """
        x = x + self.attention.extend(self.norm1(x), keys, values, length, visible)
        return x + self.mlp(self.norm2(x))

    def initialise(self, branch_scale: float) -> None:
        """Fresh weights; `branch_scale` shrinks the two layers whose outputs are added to the residual stream."""
        width = self.norm1.normalized_shape[0]
        deviations = {
            self.attention.in_proj: width**-0.5,
            self.attention.out_proj: width**-0.5 * branch_scale,
            self.mlp.linear1: (2 * width) ** -0.5,
            self.mlp.linear2: width**-0.5 * branch_scale,
        }
        for linear, deviation in deviations.items():
            nn.init.normal_(linear.weight, std=deviation)
            nn.init.zeros_(linear.bias)


class CausalAttention(nn.Module):
    """Multi-head self-attention in which a token sees itself and those before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj = Linear(width, 3 * width)
        self.out_proj = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(T, n, C) → the same shape."""
        q, k, v = self._project(x)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def extend(self, x: Tensor, keys: Tensor, values: Tensor, length: int, visible: Tensor | None) -> Tensor:
        """As `Block.extend`; keys, values: (R, heads, capacity, C / heads), of which `length` columns are filled."""
        end = length + x.shape[1]
        q, keys[:, :, length:end], values[:, :, length:end] = self._project(x)
        mixed = F.scaled_dot_product_attention(q, keys[:, :, :end], values[:, :, :end], attn_mask=visible)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def _project(self, x: Tensor) -> Tensor:
        return self.in_proj(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # 3 × (T, heads, n, width/heads)


class QuickMlp(nn.Module):
    """Two linear layers around CLIP's approximation of GELU, x · sigmoid(1.702 x)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = Linear(width, hidden)
        self.linear2 = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) → (…, width)."""
        # The same as x · sigmoid(1.702 x), of which training would keep three tensors.
        return self.linear2(F.silu(1.702 * self.linear1(x)) / 1.702)


def _unit(vectors: Tensor) -> Tensor:
    # The norm plus 1e-7, rather than at least 1e-12, is what published ensembles were made with.
    return vectors / (vectors.norm(dim=-1, keepdim=True) + 1e-7)
