"""Who may look at whom. Tasks differ only in which token groups are present; these two tables say the rest.

Groups: *object* (the first m−1 latent queries), *image* (the last latent query), *grounding* (copies of the object queries
that come with phrases), *caption* (a caption's tokens), *word* (the phrases' tokens); section 3.2 of the paper. *denoising*
(copies of object queries that are shown an annotated region each) takes part in training only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
import torch.nn.functional as F
from torch import Tensor


class Sight(Enum):
    ALL = "every token of the group"
    EARLIER = "itself and the tokens before it"
    ITSELF = "itself"


GROUPS = ("object", "image", "grounding", "caption", "denoising", "word")
"""Order in which the groups' tokens are laid out."""

SELF_ATTENTION: Mapping[str, Mapping[str, Sight]] = {
    "object": {"object": Sight.ALL},
    "image": {"image": Sight.ALL},
    "caption": {"object": Sight.ALL, "image": Sight.ALL, "caption": Sight.EARLIER},
    "grounding": {"grounding": Sight.ALL, "word": Sight.ALL},
    "word": {"grounding": Sight.ALL, "word": Sight.ALL},
    "denoising": {"denoising": Sight.ITSELF},
}
"""Row looks at column; what is absent is not seen."""

CROSS_ATTENTION: Mapping[str, str] = {
    "object": "own mask",
    "image": "own mask",
    "grounding": "own mask",
    "caption": "everywhere",
    "denoising": "everywhere",
}
"""Where a group looks in the picture; what is absent does not look."""


@dataclass(frozen=True)
class TokenGroup:
    """Tokens that a task brings along with the latent queries."""

    name: str  # one of GROUPS
    content: Tensor  # (B, N, C)
    position: Tensor  # (B, N, C), added to queries and keys
    present: Tensor | None = None  # (B, N) bool; None = all. Absent tokens are seen by nobody
    region: Tensor | None = None  # (B, 1 or N, H, W) bool, over the canvas at any resolution: where "everywhere" ends


def self_attention_mask(sizes: Mapping[str, int], present: Mapping[str, Tensor], device: torch.device) -> Tensor:
    """The table as a mask over all tokens, laid out in the order of GROUPS.

    Args:
        sizes: number of tokens of each group that takes part.
        present: (B, N) bool for the groups in which some tokens are padding.

    Returns:
        (1 or B, T, T) bool, True where the row may look at the column.
    """
    names = [name for name in GROUPS if name in sizes]
    rows = []
    for row in names:
        sights = [_block(SELF_ATTENTION[row].get(column), sizes[row], sizes[column], device) for column in names]
        rows.append(torch.cat(sights, dim=1))
    mask = torch.cat(rows)[None]
    if not present:
        return mask
    batch = len(next(iter(present.values())))
    seen = [present.get(name, torch.ones(batch, sizes[name], dtype=torch.bool, device=device)) for name in names]
    return mask & torch.cat(seen, dim=1)[:, None]


def _block(sight: Sight | None, rows: int, columns: int, device: torch.device) -> Tensor:
    ones = torch.ones(rows, columns, dtype=torch.bool, device=device)
    if sight is Sight.EARLIER:
        return ones.tril()
    if sight is Sight.ITSELF:
        return ones.tril() & ones.triu()
    return ones if sight is Sight.ALL else ~ones


def own_mask(mask_logits: Tensor) -> Tensor:
    """Where each query predicts its own region, (B, N, h·w) bool; a region that covers nothing falls back to everywhere.

    mask_logits: (B, N, h, w).
    """
    return _or_everywhere((mask_logits >= 0).flatten(2))


def everywhere(rows: int, size: tuple[int, int], region: Tensor) -> Tensor:
    """Places of an (h, w) map for each of `rows` tokens: (B, rows, h·w) bool.

    region: (B, 1 or rows, H, W) bool at any resolution, read at the nearest pixel; where nothing of it is left, all is open.
    """
    near = F.interpolate(region.float(), size=size, mode="nearest") > 0
    return _or_everywhere(near.flatten(2)).expand(-1, rows, -1)


def _or_everywhere(inside: Tensor) -> Tensor:
    return inside | ~inside.any(dim=-1, keepdim=True)


def names_of(groups: Sequence[TokenGroup]) -> set[str]:
    """The groups' names; each may be brought once."""
    names = [group.name for group in groups]
    assert len(set(names)) == len(names), f"a token group is brought twice: {names}"
    return set(names)
