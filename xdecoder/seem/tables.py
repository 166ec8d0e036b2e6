"""Who looks at whom in SEEM's three lines of code, which share their weights' names and shapes."""

from __future__ import annotations

from typing import Any

from xdecoder.decoder.attention import AttentionTable, Look, Relation

_EVERY, _OWN = Relation.EVERY, Relation.SAME_OBJECT

_GROUPS = ("object", "grounding", "spatial", "memory", "word", "stroke", "example")
"""*object* (the latent queries), *grounding* (their copies that come with phrases), *spatial* (copies that come with strokes),
*memory* (tokens that read what the round before has found), *word* (the phrases' tokens), *stroke* (marked pixels), *example*
(pixels that are marked on another image)."""

_CROSS_ATTENTION: dict[str, Look] = {
    "object": "own mask",
    "grounding": "own mask",
    "spatial": "own mask",
    "memory": "given mask",
}

_APART = {
    "object": {"object": _EVERY},
    "grounding": {"grounding": _EVERY, "word": _EVERY},
    "word": {"grounding": _EVERY, "word": _EVERY},
}

V1 = AttentionTable(
    groups=_GROUPS,
    self_attention={
        **_APART,
        "spatial": {"spatial": _OWN, "stroke": _OWN, "example": _OWN, "memory": _OWN},
        "memory": {"memory": _OWN},
    },
    cross_attention=_CROSS_ATTENTION,
    interpolation="bilinear",
)
"""Several objects at once, each with queries, strokes and memory of its own; phrases, strokes and panoptic segmentation are
three conversations that do not hear each other."""

V0 = AttentionTable(
    groups=_GROUPS,
    self_attention={
        **_APART,
        "spatial": {"spatial": _EVERY, "stroke": _EVERY, "example": _EVERY, "memory": _EVERY},
        "memory": {"memory": _EVERY},
    },
    cross_attention=_CROSS_ATTENTION,
    interpolation="bilinear",
)
"""One object at a time, which all copies of the object queries are about."""

DEMO = AttentionTable(
    groups=_GROUPS,
    self_attention={
        "object": {"object": _EVERY, "word": _EVERY, "stroke": _EVERY, "example": _EVERY},
        "word": {"object": _EVERY, "word": _EVERY},
    },
    cross_attention={"object": "own mask"},
    interpolation="bilinear",
)
"""One object at a time; the object queries themselves hear everything that is said, so that prompts add up."""

VERSIONS: dict[str, dict[str, Any]] = {
    "v1": {"decoder": {"attention": V1}, "strokes": {"queries": 3}},
    "v0": {"decoder": {"attention": V0}, "strokes": {"queries": "all"}},
    "demo": {"decoder": {"attention": DEMO}, "strokes": {"queries": "object"}},
}
"""Settings of `SeemConfig` in which the three differ."""
