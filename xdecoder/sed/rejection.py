"""Early rejection: classes that are among the best nowhere are dropped before the decoder spends time on them (section 3.4).

The first decision is about all classes and is made without embedding their cost maps: the embedding and the first auxiliary
head are linear, hence one kernel, and the kernel can be moved from the many cost maps to the one image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_VALUES = 1 << 26  # most numbers of the texts that are multiplied at a time


def survivors(scores: Tensor, keep: int) -> Tensor:
    """Which classes are among the `keep` best of at least one place; of equal ones, those that come first.

    scores: (T, h, w). Returns (T,) bool, all True where there are no more than `keep`.
    """
    classes = scores.shape[0]
    if keep >= classes:
        return scores.new_ones(classes, dtype=torch.bool)
    places = scores.flatten(1).T.contiguous()  # (h·w, T)
    last = places.topk(keep, dim=1).values[:, -1:]
    above, equal = places > last, places == last
    room = keep - above.sum(dim=1, keepdim=True)
    return (above | (equal & (equal.cumsum(dim=1) <= room))).any(dim=0)


def first_scores(unit: Tensor, text: Tensor, embed: nn.Conv2d, head: nn.Conv2d) -> Tensor:
    """The first auxiliary head's logits of all classes of one picture.

    Args:
        unit: (C, h, w) image features of length one.
        text: (T, P, C) unit vectors.
        embed: the cost map's embedding, P → D channels.
        head: the auxiliary head, D → 1 channel.

    Returns:
        (T, h, w), what `head(embed(cost map))` is but for rounding.
    """
    height, width = unit.shape[-2:]
    image = _image_side(unit, embed, head).flatten(2).flatten(0, 1)  # (P·C, h·w)
    rows = text.flatten(1)
    step = max(_VALUES // rows.shape[1], 1)
    scores = torch.cat([rows[i : i + step].to(image.dtype) @ image for i in range(0, len(rows), step)])
    assert embed.bias is not None
    constant = embed.bias[:, None, None].expand(-1, height, width)
    return scores.unflatten(1, (height, width)) + head(constant[None])[0]


def _image_side(unit: Tensor, embed: nn.Conv2d, head: nn.Conv2d) -> Tensor:
    """What each template's text is multiplied with at each place: (P, C, h, w).

    The two kernels joined reach over their sum. At the rim, where the head sees zeros rather than embedded cost maps, its
    outer taps are missing: each of the nine kinds of place has its kernel.
    """
    channels, height, width = unit.shape
    reach = embed.kernel_size[0] // 2 + 1
    padded = F.pad(unit, (reach, reach, reach, reach))[:, None]
    result = unit.new_empty(channels, embed.in_channels, height, width)
    for rows, down in _kinds(height):
        for columns, across in _kinds(width):
            seen = padded[..., rows.start : rows.stop + 2 * reach, columns.start : columns.stop + 2 * reach]
            result[..., rows, columns] = F.conv2d(seen, _joined(embed.weight, head.weight[0], down, across)[:, None])
    return result.transpose(0, 1)


def _kinds(length: int) -> list[tuple[slice, tuple[int, ...]]]:
    """Places along one axis, and the taps (of 3) that lie on the map there."""
    if length == 1:
        return [(slice(0, 1), (1,))]
    kinds = [(slice(0, 1), (1, 2)), (slice(1, length - 1), (0, 1, 2)), (slice(length - 1, length), (0, 1))]
    return [(places, taps) for places, taps in kinds if places.stop > places.start]


def _joined(embed: Tensor, head: Tensor, down: tuple[int, ...], across: tuple[int, ...]) -> Tensor:
    """embed: (D, P, k, k); head: (D, 3, 3), of which the given taps count. Returns (P, k + 2, k + 2)."""
    kernel = embed.shape[-1]
    joined = embed.new_zeros(embed.shape[1], kernel + 2, kernel + 2)
    for y in down:
        for x in across:
            joined[:, y : y + kernel, x : x + kernel] += torch.einsum("d,dpij->pij", head[:, y, x], embed)
    return joined
