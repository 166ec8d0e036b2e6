"""Parameter names of the published checkpoints ↔ ours."""

from __future__ import annotations

import re

from torch import Tensor

BUFFERS = ("sem_seg_head.predictor.self_attn_mask", "criterion.empty_weight")
"""Entries of published files that hold constants, not weights."""

_RULES: tuple[tuple[str, str], ...] = (
    (r"^backbone\.patch_embed\.", "backbone.stem."),
    (r"^backbone\.layers\.(\d+)\.blocks\.", r"backbone.stages.\1."),
    (r"^backbone\.layers\.(\d+)\.downsample\.", r"backbone.downsamples.\1."),
    (r"^backbone\.norm(\d+)\.", r"backbone.norms.\1."),
    (r"\.focal_layers\.(\d+)\.0\.", r".contexts.\1."),
    (r"\.gamma_(\d)$", r".gamma\1"),
    # pixel decoder
    (r"^sem_seg_head\.pixel_decoder\.", "pixel_decoder."),
    (r"\.transformer\.encoder\.layers\.(\d+)\.", r".encoder.\1."),
    (r"\.adapter_(\d)\.weight", r".laterals.<\1>.conv.weight"),
    (r"\.adapter_(\d)\.", r".laterals.<\1>."),
    (r"\.layer_(\d)\.weight", r".outputs.<\1>.conv.weight"),
    (r"\.layer_(\d)\.", r".outputs.<\1>."),
    (r"(\.encoder\.\d+)\.self_attn\.", r"\1.attention."),
    (r"(\.encoder\.\d+)\.linear", r"\1.feed_forward.linear"),
    # text encoder
    (r"^sem_seg_head\.predictor\.lang_encoder\.(lang_encoder\.)?", "language."),
    (r"\.lang_proj$", ".projection"),
    (r"\.positional_embedding$", ".position_embedding"),
    (r"\.resblocks\.(\d+)\.attn\.", r".blocks.\1.attention."),
    (r"\.resblocks\.", ".blocks."),
    (r"\.ln_(\d)\.", r".norm\1."),
    (r"\.ln_final\.", ".final_norm."),
    (r"\.mlp\.c_fc\.", ".mlp.linear1."),
    (r"\.mlp\.c_proj\.", ".mlp.linear2."),
    # decoder
    (r"^sem_seg_head\.predictor\.", "decoder."),
    (r"^decoder\.class_embed$", "decoder.heads.semantic"),
    (r"^decoder\.caping_embed$", "decoder.heads.caption"),
    (r"^decoder\.mask_embed\.", "decoder.heads.mask."),
    (r"^decoder\.decoder_norm\.", "decoder.heads.norm."),
    (r"^decoder\.query_feat\.", "decoder.query_content."),
    (r"^decoder\.query_embed\.", "decoder.query_position."),
    (r"^decoder\.level_embed\.", "decoder.level_embedding."),
    (r"^decoder\.pos_embed_caping\.", "decoder.caption_position."),
    (r"\.transformer_cross_attention_layers\.(\d+)\.multihead_attn\.", r".layers.\1.cross_attention."),
    (r"\.transformer_cross_attention_layers\.(\d+)\.norm\.", r".layers.\1.norm1."),
    (r"\.transformer_self_attention_layers\.(\d+)\.self_attn\.", r".layers.\1.self_attention."),
    (r"\.transformer_self_attention_layers\.(\d+)\.norm\.", r".layers.\1.norm2."),
    (r"\.transformer_ffn_layers\.(\d+)\.norm\.", r".layers.\1.norm3."),
    (r"\.transformer_ffn_layers\.(\d+)\.", r".layers.\1.feed_forward."),
    (r"\.in_proj_(weight|bias)$", r".in_proj.\1"),
)


def to_ours(name: str) -> str:
    """Our name of a published parameter, for Focal backbones and the feature-pyramid pixel decoder."""
    for pattern, replacement in _RULES:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"<(\d)>", lambda level: str(int(level[1]) - 1), name)     # published levels count from 1


def convert(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A published state dictionary under our names, its constants left out."""
    return {to_ours(name): value for name, value in weights.items() if name not in BUFFERS}
