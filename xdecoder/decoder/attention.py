"""Who may look at whom, as a value: a network's table, and the masks that follow from it (section 3.2 of the paper).

Tasks differ only in which token groups are present; the table says the rest, to training, prediction and cached captions alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import model_validator
from torch import Tensor

from xdecoder.config import Config


class Relation(StrEnum):
    """Which tokens of a group a token of another group, or of its own, looks at."""

    EVERY = "every token"
    EARLIER = "itself and earlier"  # of the same object, where tokens have owners
    ITSELF = "itself"
    SAME_OBJECT = "of the same object"


Look = Literal["own mask", "given mask", "everywhere"]
"""Where a group looks in the image: inside the mask that each token predicts itself, inside `TokenGroup.mask`, or everywhere,
which a given mask may narrow."""


class AttentionTable(Config):
    """Token groups and who looks at whom; what a network's config carries."""

    groups: tuple[str, ...]
    """Order in which the groups' tokens are laid out; those that look at the image come first."""
    self_attention: Mapping[str, Mapping[str, Relation]]
    """Row looks at column; what is absent is not seen."""
    cross_attention: Mapping[str, Look]
    """Where a group looks in the image; what is absent does not look."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """How masks are resized to the map that a layer reads; bicubic with antialiasing."""
    full_size_masks: bool = False
    """Make masks at full size and resize them, as published networks do, instead of resizing what they are made of. Only the
    last bits differ, which turn a pixel on the rim of a mask now and then."""
    padding_seen: tuple[str, ...] = ()
    """Groups whose absent tokens are seen in a batch (a defect that X-Decoder's published weights were trained with)."""
    first_looks_everywhere: tuple[str, ...] = ()
    """Groups whose first token looks everywhere (likewise: the line that meant the image token opens the one behind it)."""

    @model_validator(mode="after")
    def _groups_are_known(self) -> AttentionTable:
        columns = (name for row in self.self_attention.values() for name in row)
        for name in (*self.self_attention, *columns, *self.cross_attention):
            if name not in self.groups:
                raise ValueError(f"{name!r} is none of the groups {', '.join(self.groups)}")
        looking = [name in self.cross_attention for name in self.groups]
        if looking != sorted(looking, reverse=True):
            raise ValueError(f"of the groups {', '.join(self.groups)} those that cross-attend must come first")
        return self

    def ordered(self, groups: Sequence[TokenGroup]) -> list[TokenGroup]:
        """The groups as they are laid out; each must be known and brought once."""
        names = [group.name for group in groups]
        assert len(set(names)) == len(names), f"a token group is brought twice: {names}"
        assert set(names) <= set(self.groups), f"token groups are {', '.join(self.groups)}, not {names}"
        return sorted(groups, key=lambda group: self.groups.index(group.name))

    def unmasked(self) -> AttentionTable:
        """With every group that looks at the image looking everywhere, as in published answering."""
        return self.model_copy(update={"cross_attention": dict.fromkeys(self.cross_attention, "everywhere")})

    def as_published(self) -> AttentionTable:
        """With the defects that X-Decoder's published weights were trained with."""
        return self.model_copy(
            update={"full_size_masks": True, "padding_seen": ("word",), "first_looks_everywhere": ("grounding",)}
        )


XDECODER = AttentionTable(
    groups=(
        "object",
        "image",
        "grounding",
        "caption",
        "question",
        "denoising",
        "spatial",
        "memory",
        "word",
        "stroke",
        "example",
    ),
    self_attention={
        "object": {"object": Relation.EVERY},
        "image": {"image": Relation.EVERY},
        "caption": {"object": Relation.EVERY, "image": Relation.EVERY, "caption": Relation.EARLIER},
        "question": {"object": Relation.EVERY, "image": Relation.EVERY, "question": Relation.EARLIER},
        "grounding": {"grounding": Relation.EVERY, "word": Relation.EVERY},
        "word": {"grounding": Relation.EVERY, "word": Relation.EVERY},
        "denoising": {"denoising": Relation.ITSELF},
        "spatial": dict.fromkeys(("spatial", "memory", "stroke", "example"), Relation.SAME_OBJECT),
        "memory": {"memory": Relation.SAME_OBJECT},
    },
    cross_attention={
        "object": "own mask",
        "image": "own mask",
        "grounding": "own mask",
        "caption": "everywhere",
        "question": "everywhere",
        "denoising": "given mask",
        "spatial": "own mask",
        "memory": "given mask",
    },
)
"""X-Decoder's groups: *object* (the first m−1 latent queries), *image* (the last latent query), *grounding* (copies of the
object queries that come with phrases), *caption* (a caption's tokens), *question* (one token for each of a question's), *word*
(the phrases' tokens), in training *denoising* (copies of object queries that are shown an annotated region each), and those of
marked objects, which are SEEM's: *spatial* (their queries), *memory* (tokens that read what the round before has found),
*stroke* (pixels that are marked), *example* (pixels that are marked on another image)."""


@dataclass(frozen=True)
class TokenGroup:
    """Tokens that a task brings along with the latent queries."""

    name: str  # one of the table's groups
    content: Float[Tensor, "B N C"]
    position: Float[Tensor, "B N C"]  # added to queries and keys
    present: Bool[Tensor, "B N"] | None = None  # None = all. Absent tokens are seen by nobody
    owner: Int[Tensor, "*L B N"] | None = None  # of all layers, or of each: object of each token, -1 = nobody's
    mask: Tensor | None = None
    """Where the tokens may look, (B, 1 or N, H, W) over the padded input at any resolution; with `owner` (B, O, H, W), the
    masks of the objects. Bool, read at the nearest pixel, or logits, resized as the table says."""
    fresh: tuple[TokenGroup, ...] = ()
    """One group for each of the three maps, coarse to fine, that stands in for this one in the layers that read the map: its
    tokens are looked at and do not live on."""

    def at(self, layer: int, level: int) -> TokenGroup:
        """The group as it is in a layer that reads the map `level`."""
        group = self.fresh[level] if self.fresh else self
        if group.owner is None or group.owner.dim() == 2:
            return group
        return replace(group, owner=group.owner[layer])

    @property
    def varies(self) -> bool:
        """Whether the group is not the same in all layers."""
        return bool(self.fresh) or (self.owner is not None and self.owner.dim() == 3)


def self_attention_mask(
    table: AttentionTable,
    rows: Sequence[TokenGroup],
    fresh: Sequence[TokenGroup] = (),
    past: Mapping[str, int] | None = None,
) -> Tensor | None:
    """The table as a mask.

    Args:
        rows: groups that look and are looked at, as laid out, N tokens together.
        fresh: groups that are only looked at, behind them, M tokens together.
        past: numbers of tokens, before them and P together, that were decoded earlier.

    Returns:
        (1 or B, N, P + N + M) bool, True where the row may look at the column; None if all may look at all. A token that
        would see nothing sees itself.
    """
    past = past or {}
    columns = (*rows, *fresh)
    relations = {row.name: table.self_attention.get(row.name, {}) for row in rows}
    if _all_see_all(table, rows, columns, past):
        return None
    blocks = []
    for row in rows:
        count, device = row.content.shape[1], row.content.device
        seen = [
            torch.full((1, count, size), relations[row.name].get(name) in (Relation.EVERY, Relation.EARLIER), device=device)
            for name, size in past.items()
        ]
        seen += [_block(relations[row.name].get(column.name), row, column) for column in columns]
        batch = max(block.shape[0] for block in seen)
        blocks.append(torch.cat([block.expand(batch, -1, -1) for block in seen], dim=2))
    batch = max(block.shape[0] for block in blocks)
    mask = torch.cat([block.expand(batch, -1, -1) for block in blocks], dim=1)
    first = sum(past.values())
    if batch > 1 or any(column.present is not None or column.owner is not None for column in columns):
        blind = ~mask.any(dim=2)
        mask[:, :, first : first + mask.shape[1]] |= torch.diag_embed(blind)
    return mask


def _all_see_all(
    table: AttentionTable, rows: Sequence[TokenGroup], columns: Sequence[TokenGroup], past: Mapping[str, int]
) -> bool:
    for row in rows:
        seen = table.self_attention.get(row.name, {})
        alone = row.content.shape[1] == 1  # of one token, "itself and earlier" is all there is
        enough = (Relation.EVERY, Relation.EARLIER) if alone else (Relation.EVERY,)
        if any(seen.get(name) not in (Relation.EVERY, Relation.EARLIER) for name in past):
            return False
        if any(seen.get(column.name) not in enough or column.present is not None for column in columns):
            return False
    return True


def _block(relation: Relation | None, row: TokenGroup, column: TokenGroup) -> Tensor:
    """Which tokens of `column` those of `row` see, (1 or B, N, M) bool."""
    n, m, device = row.content.shape[1], column.content.shape[1], row.content.device
    if relation is Relation.SAME_OBJECT:
        assert row.owner is not None and column.owner is not None, f"whose are the tokens of {row.name} and {column.name}?"
        seen = row.owner[:, :, None] == column.owner[:, None]
    else:
        seen = torch.full((1, n, m), relation is not None, device=device)
        if relation in (Relation.EARLIER, Relation.ITSELF):
            seen = seen.tril()
        if relation is Relation.ITSELF:
            seen = seen.triu()
        if relation is Relation.EARLIER and row.owner is not None and column.owner is not None:
            seen = seen & (row.owner[:, :, None] == column.owner[:, None])
    if column.present is not None:
        seen = seen & column.present[:, None]
    return seen


def own_mask(mask_logits: Float[Tensor, "B N h w"]) -> Bool[Tensor, "B N h*w"]:
    """Where each query predicts its own region, (B, N, h·w) bool; a region that covers nothing falls back to everywhere.

    mask_logits: (B, N, h, w).
    """
    return _or_everywhere((mask_logits >= 0).flatten(2))


def given_mask(group: TokenGroup, size: tuple[int, int], table: AttentionTable) -> Tensor:
    """Where each token of a group with a `mask` may look on an (h, w) map: (B, N, h·w) bool.

    Where nothing of a mask is left at that size, all is open.
    """
    assert group.mask is not None, f"where may tokens of {group.name} look?"
    if group.mask.dtype == torch.bool:
        inside = F.interpolate(group.mask.float(), size=size, mode="nearest") > 0
    else:
        inside = resize(group.mask, size, table.interpolation) >= 0
    places = _or_everywhere(inside.flatten(2))
    if group.owner is not None:
        places = places.gather(1, group.owner.clamp(min=0)[..., None].expand(-1, -1, places.shape[2]))
    return places.expand(-1, group.content.shape[1], -1)


def resize(maps: Tensor, size: tuple[int, ...], interpolation: str) -> Tensor:
    """Maps (B, N, H, W) at another size (h, w); bicubic with antialiasing, bilinear without."""
    resized = F.interpolate(maps.float(), size=size, mode=interpolation, antialias=interpolation == "bicubic")
    return resized.to(maps.dtype)


def _or_everywhere(inside: Tensor) -> Tensor:
    return inside | ~inside.any(dim=-1, keepdim=True)
