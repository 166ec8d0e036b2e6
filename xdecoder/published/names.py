"""Parameter names of the published checkpoints ↔ ours, in one table that is read in both directions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from xdecoder.decoder.attention import XDECODER, TokenGroup, self_attention_mask

_PREFIXES = re.compile(r"^(?:(?:model|module)\.)+")
"""What wrappers put before a name when they save."""

ATTENTION_MASK = "sem_seg_head.predictor.self_attn_mask"
CLASS_WEIGHTS = "criterion.empty_weight"
DILATION = "dilation_kernel"  # of SEEM: with what a click is made 3 x 3 pixels wide
BUFFERS = (ATTENTION_MASK, CLASS_WEIGHTS, DILATION)
"""Entries of published files that hold constants, not weights."""

_BACKGROUND_WEIGHT = 0.1

# Published name, our name: `#` is a number, `*` the rest of the name. The first row that fits is taken.
_BACKBONES = (
    ("backbone_proj", "backbone_proj"),
    # Focal
    ("backbone.patch_embed.*", "backbone.stem.*"),
    ("backbone.layers.#.downsample.*", "backbone.downsamples.#.*"),
    ("backbone.norm#.*", "backbone.norms.#.*"),
    ("backbone.layers.#.blocks.#.modulation.focal_layers.#.0.*", "backbone.stages.#.#.modulation.contexts.#.*"),
    ("backbone.layers.#.blocks.#.gamma_#", "backbone.stages.#.#.gamma#"),
    # DaViT
    ("backbone.convs.#.*", "backbone.embeddings.#.*"),
    *(
        (f"backbone.blocks.#.#.{kind}_block.{published}", f"backbone.stages.#.#.{kind}.{ours}")
        for kind, attention in (("spatial", "window_attn"), ("channel", "channel_attn"))
        for published, ours in (
            ("conv#.fn.dw.*", "conv#.*"),
            (f"{attention}.norm.*", "norm1.*"),
            (f"{attention}.fn.*", "attention.*"),
            ("ffn.norm.*", "norm2.*"),
            ("ffn.fn.net.*", "mlp.*"),
        )
    ),
    # SAM behind SEEM; its patches are Focal's stem
    ("backbone.pos_embed", "backbone.position_embedding"),
    *((f"backbone.neck.down_{stride}.*", f"backbone.neck.{i}.*") for i, stride in enumerate((4, 8, 16, 32))),
    ("backbone.blocks.#.attn.rel_pos_h", "backbone.blocks.#.attention.row_offsets"),
    ("backbone.blocks.#.attn.rel_pos_w", "backbone.blocks.#.attention.column_offsets"),
    ("backbone.blocks.#.attn.*", "backbone.blocks.#.attention.*"),
    ("backbone.blocks.#.mlp.lin#.*", "backbone.blocks.#.mlp.fc#.*"),
    # Focal again: the rest of a block, once DaViT's are told apart
    ("backbone.layers.#.blocks.#.*", "backbone.stages.#.#.*"),
)

_ATTENTION = (
    ("in_proj_weight", "in_proj.weight"),
    ("in_proj_bias", "in_proj.bias"),
    ("*", "*"),  # the output's projection, and all of deformable attention
)

_PIXEL_DECODERS = tuple(
    (f"sem_seg_head.pixel_decoder.{published}", f"pixel_decoder.{ours}")
    for published, ours in (
        *(
            (f"{theirs}_{i + 1}.{published}", f"{lists}.{i}.{ours}")
            for theirs, lists, count in (("adapter", "laterals", 3), ("layer", "outputs", 4))
            for i in range(count)
            for published, ours in (("weight", "conv.weight"), ("norm.*", "norm.*"))
        ),
        ("mask_features.*", "mask_features.*"),
        ("input_proj.#.0.*", "input_proj.#.conv.*"),
        ("input_proj.#.1.*", "input_proj.#.norm.*"),
        ("input_proj.*", "input_proj.*"),
        ("transformer.level_embed", "level_embedding"),
        *((f"transformer.encoder.layers.#.self_attn.{a}", f"encoder.#.attention.{b}") for a, b in _ATTENTION),
        ("transformer.encoder.layers.#.linear#.*", "encoder.#.feed_forward.linear#.*"),
        ("transformer.encoder.layers.#.norm#.*", "encoder.#.norm#.*"),
    )
)

_LANGUAGE = tuple(
    (f"sem_seg_head.predictor.lang_encoder.{published}", f"language.{ours}")
    for published, ours in (
        ("lang_proj", "projection"),
        ("logit_scale", "logit_scale"),
        ("lang_encoder.positional_embedding", "position_embedding"),
        ("lang_encoder.token_embedding.*", "token_embedding.*"),
        ("lang_encoder.ln_final.*", "final_norm.*"),
        *((f"lang_encoder.resblocks.#.attn.{a}", f"blocks.#.attention.{b}") for a, b in _ATTENTION),
        ("lang_encoder.resblocks.#.ln_#.*", "blocks.#.norm#.*"),
        ("lang_encoder.resblocks.#.mlp.c_fc.*", "blocks.#.mlp.linear1.*"),
        ("lang_encoder.resblocks.#.mlp.c_proj.*", "blocks.#.mlp.linear2.*"),
    )
)

_DECODER = tuple(
    (f"sem_seg_head.predictor.{published}", ours if ours.startswith("strokes.") else f"decoder.{ours}")
    for published, ours in (
        ("class_embed", "heads.semantic"),
        ("caping_embed", "heads.caption"),
        ("mask_embed.*", "heads.mask.*"),
        ("decoder_norm.*", "heads.norm.*"),
        ("query_feat.*", "query_content.*"),
        ("query_embed.*", "query_position.*"),
        ("level_embed.*", "level_embedding.*"),
        ("pos_embed_caping.*", "caption_position.*"),
        # SEEM's own
        ("mask_sptial_embed.#", "strokes.projections.#"),
        ("pn_indicator.*", "strokes.sign.*"),
        ("spatial_featured.*", "strokes.memory_content.*"),
        ("spatial_embed.*", "strokes.memory_position.*"),
        *((f"transformer_cross_attention_layers.#.multihead_attn.{a}", f"layers.#.cross_attention.{b}") for a, b in _ATTENTION),
        ("transformer_cross_attention_layers.#.norm.*", "layers.#.norm1.*"),
        *((f"transformer_self_attention_layers.#.self_attn.{a}", f"layers.#.self_attention.{b}") for a, b in _ATTENTION),
        ("transformer_self_attention_layers.#.norm.*", "layers.#.norm2.*"),
        ("transformer_ffn_layers.#.norm.*", "layers.#.norm3.*"),
        ("transformer_ffn_layers.#.*", "layers.#.feed_forward.*"),
    )
)

_ANSWERS = (
    ("sem_seg_head.predictor.query_feat_caping.*", "answers.query_content.*"),
    ("sem_seg_head.predictor.vqa_classifier.*", "answers.classifier.*"),
)

_ROWS = (*_BACKBONES, *_PIXEL_DECODERS, *_LANGUAGE, *_ANSWERS, *_DECODER)


def compile_names(rows: Iterable[tuple[str, str]]) -> list[tuple[re.Pattern[str], str]]:
    """Rows of (from, to) as patterns and templates; the n-th `#` or `*` of one is the n-th of the other."""
    rules = []
    for source, target in rows:
        pattern = re.escape(source).replace(r"\#", "#").replace("#", r"(\d+)").replace(r"\*", "(.+)")
        rules.append((re.compile(pattern), re.sub(r"[#*]", "{}", target)))
    return rules


_TO_OURS = compile_names(_ROWS)
_TO_PUBLISHED = compile_names((ours, published) for published, ours in _ROWS)


def to_ours(name: str) -> str:
    """Our name of a published parameter (without wrappers' prefixes); a name that no published network has stays as it is."""
    return translate(name, _TO_OURS)


def to_published(name: str) -> str:
    """The published name of our parameter; a name that no published network has stays as it is."""
    return translate(name, _TO_PUBLISHED)


def translate(name: str, rules: Iterable[tuple[re.Pattern[str], str]]) -> str:
    for pattern, target in rules:
        if found := pattern.fullmatch(name):
            return target.format(*found.groups())
    return name


def strip_prefixes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same entries, whatever their shapes, without the `model.` and `module.` that wrappers put before names.

    Raises:
        ValueError: for a weight that stands there twice, with and without a prefix.
    """
    plain = {_PREFIXES.sub("", name): value for name, value in weights.items()}
    if len(plain) != len(weights):
        raise ValueError("a weight stands twice in the checkpoint, with and without a prefix such as 'model.' or 'module.'")
    return plain


def convert(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dictionary under our names, without prefixes and constants; shapes stay as they are.

    What no published network has keeps its name, so that a loader can report it.

    Raises:
        ValueError: for a weight that stands there twice, with and without a prefix.
    """
    return {to_ours(name): value for name, value in strip_prefixes(weights).items() if name not in BUFFERS}


def to_published_state(weights: Mapping[str, Tensor], classes: int | None = 133) -> dict[str, Tensor]:
    """Our state dictionary under the published names, shapes unchanged, with the constants that published files hold.

    Args:
        weights: `state_dict()` of an X-Decoder or a SEEM.
        classes: how many classes the network was trained on; the background comes on top. None: it is not said, as in the
            files of SEEM's demo.
    """
    published = {to_published(name): value for name, value in weights.items()}
    if classes is not None:
        published[CLASS_WEIGHTS] = torch.cat((torch.ones(classes), torch.tensor([_BACKGROUND_WEIGHT])))
    if "strokes.sign.weight" in weights:
        return published | {DILATION: torch.ones(1, 1, 3, 3)}
    queries = weights["decoder.query_content.weight"].shape[0]
    words = weights["decoder.caption_position.weight"].shape[0]
    sizes = {"object": queries - 1, "image": 1, "caption": words}
    groups = [TokenGroup(name, torch.empty(1, size, 0), torch.empty(1, size, 0)) for name, size in sizes.items()]
    seen = self_attention_mask(XDECODER, groups)
    assert seen is not None
    published[ATTENTION_MASK] = ~seen  # there, True = may not look
    return published
