"""Which network a file of published weights holds, told from the names and shapes in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from xdecoder.backbones.sam import PATCH
from xdecoder.config import parse
from xdecoder.decoder.answers import AnswerConfig
from xdecoder.model import EncoderDecoderConfig, XDecoderConfig
from xdecoder.published.seem import Version, version_of
from xdecoder.seem.network import SeemConfig
from xdecoder.seem.tables import VERSIONS

DECODER = "sem_seg_head.predictor."
PIXELS = "sem_seg_head.pixel_decoder."
TEXT = DECODER + "lang_encoder."
ANSWERS = DECODER + "vqa_classifier.3.weight"
OURS = ("backbone.", "pixel_decoder.", "decoder.", "language.")  # how names begin in our own files
SEEM = DECODER + "pn_indicator.weight"  # has it and X-Decoder has not
HEADS = 8  # of every transformer that was published; shapes do not tell
EXPECTED = "expected X-Decoder's backbone, sem_seg_head.pixel_decoder, sem_seg_head.predictor with its lang_encoder"
START = "training starts from them with `weights: FILE` in the experiment, or xdecoder.published.checkpoints.initialise"


def architecture(
    weights: Mapping[str, Tensor], path: str | Path, answers: Sequence[str] | None = None, version: str | None = None
) -> EncoderDecoderConfig:
    """The settings of the network whose published names and shapes these are.

    Args:
        answers: what an answer head chooses from; None = the published 3129 answers.
        version: of a SEEM, "v0", "v1" or "demo"; by default its file's name tells it.

    Raises:
        ValueError: naming `path`, for weights of another or of only a part of the network, and for a version that is not known.
    """
    if all(any(name.startswith(part) for name in weights) for part in OURS):
        raise ValueError(
            f"{path}: weights of an X-Decoder without its configuration (a state_dict); {START}, "
            "and xdecoder.checkpoint.save writes both"
        )
    refuse_others(weights, path)
    if version is not None and SEEM not in weights:
        raise ValueError(f"{path}: is no SEEM, so there is no version {version!r} of it")
    seem = version_of(path, version) if SEEM in weights else None
    try:
        settings = _seem_settings(weights, seem) if seem else _settings(weights)
    except KeyError as error:
        name = error.args[0]
        raise ValueError(f"{path}: the checkpoint lacks {name!r}, without which its architecture is unknown") from None
    except (ValueError, IndexError, ZeroDivisionError):
        raise ValueError(f"{path}: a weight that tells the architecture has a shape that no X-Decoder has") from None
    outputs = weights.get(ANSWERS)
    if outputs is not None:
        settings["answers"] = {"answers": _answers(outputs.shape[0], answers, path), "masked_latents": False}
    return parse(SeemConfig if seem else XDecoderConfig, settings, where=str(path))


def _answers(outputs: int, given: Sequence[str] | None, path: str | Path) -> tuple[str, ...]:
    known = AnswerConfig.model_validate({"answers": "vqav2"}).answers if given is None else tuple(given)
    if len(known) != outputs:
        whose = f"the published list has {len(known)}; give its own as answers" if given is None else f"{len(known)} are given"
        raise ValueError(f"{path}: its answer head chooses from {outputs} answers, but {whose}")
    return known


def refuse_others(weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Raises ValueError that says what a file without a whole X-Decoder or SEEM is; names tell, and no shapes."""
    other = other_network(lambda part: any(part in name for name in weights))
    if other and SEEM not in weights:
        raise ValueError(f"{path}: {other}; {EXPECTED}")
    has = {part: any(name.startswith(part) for name in weights) for part in ("backbone.", PIXELS, DECODER, TEXT)}
    if all(has.values()):
        return
    blocks = r"(^|\.)(patch_embed|(layers|blocks|convs|stages)\.\d+)\."
    if not has[PIXELS] and not has[DECODER] and _looks_like(weights, blocks):
        raise ValueError(f"{path}: weights of a backbone only; {START}")
    if not has["backbone."] and not has[PIXELS] and _looks_like(weights, r"(^|\.)(token_embedding|resblocks)\b"):
        raise ValueError(f"{path}: weights of a text encoder only; {START}")
    example = f", but, for example, {next(iter(weights))!r}" if weights else ", but no weights at all"
    raise ValueError(f"{path}: not an X-Decoder checkpoint; {EXPECTED}{example}")


def other_network(holds: Callable[[str], bool]) -> str | None:
    """What a file of another network of this family is, in a few words; None if it is no such file.

    Args:
        holds: whether a text stands in any of the file's names.
    """
    if holds(DECODER + "clip_model."):
        return "a SED checkpoint, whose decoder reads a cost map on CLIP features"
    if holds(DECODER + "pn_indicator."):
        return "a SEEM checkpoint, whose decoder reads strokes and a memory too"
    if (holds(DECODER) and not holds(TEXT)) or holds("pixel_level_module."):
        return "a Mask2Former checkpoint, whose decoder knows no texts"
    return None


def _looks_like(weights: Mapping[str, Tensor], pattern: str) -> bool:
    return any(re.search(pattern, name) for name in weights)


def _settings(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    shape = {name: tuple(value.shape) for name, value in weights.items()}
    settings = _common(shape)
    settings["decoder"] |= {"caption_length": shape[DECODER + "pos_embed_caping.weight"][0]}
    return settings


def _seem_settings(weights: Mapping[str, Tensor], version: Version) -> dict[str, Any]:
    shape = {name: tuple(value.shape) for name, value in weights.items()}
    settings, differs = _common(shape), VERSIONS[version]
    settings["decoder"] |= differs["decoder"]
    strokes = {"memory": shape[DECODER + "spatial_featured.weight"][0], **differs["strokes"]}
    return {"name": "seem", **settings, "strokes": strokes}


def _common(shape: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    queries, width = shape[DECODER + "query_feat.weight"]
    text = TEXT + "lang_encoder."
    words, text_width = shape[text + "token_embedding.weight"]
    return {
        "backbone": _backbone(shape),
        "pixel_decoder": _pixel_decoder(shape),
        "decoder": {
            "queries": queries,
            "layers": _count(shape, DECODER + r"transformer_ffn_layers\.(\d+)\."),
            "width": width,
            "heads": HEADS,
            "hidden": shape[DECODER + "transformer_ffn_layers.0.linear1.weight"][0],
            "joint_width": shape[DECODER + "class_embed"][1],
        },
        "language": {
            "merges": words - 514,
            "context_length": shape[text + "positional_embedding"][0],
            "width": text_width,
            "heads": HEADS,
            "layers": _count(shape, text + r"resblocks\.(\d+)\."),
            "output_width": shape[TEXT + "lang_proj"][1],
        },
        "published_quirks": True,
    }


def _backbone(shape: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    if "backbone.convs.0.proj.weight" in shape:
        return _davit(shape)
    return _sam(shape) if "backbone.pos_embed" in shape else _focal(shape)


def _sam(shape: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    _, patches, _, width = shape["backbone.pos_embed"]
    depth = _count(shape, r"backbone\.blocks\.(\d+)\.")
    offsets = [shape[f"backbone.blocks.{number}.attn.rel_pos_h"] for number in range(depth)]
    return {
        "name": "sam",
        "width": width,
        "heads": width // offsets[0][1],
        "depth": depth,
        "everywhere": [number for number, (rows, _) in enumerate(offsets) if rows == 2 * patches - 1],
        "window": (min(rows for rows, _ in offsets) + 1) // 2,
        "side": patches * PATCH,
        "mlp_ratio": shape["backbone.blocks.0.mlp.lin1.weight"][0] / width,
    }


def _focal(shape: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    block = "backbone.layers.0.blocks.0."
    width = shape["backbone.patch_embed.proj.weight"][0]
    return {
        "name": "focal",
        "width": width,
        "depths": [_count(shape, rf"backbone\.layers\.{stage}\.blocks\.(\d+)\.") for stage in range(4)],
        "levels": _count(shape, block + r"modulation\.focal_layers\.(\d+)\."),
        "window": shape[block + "modulation.focal_layers.0.0.weight"][-1],
        "depthwise": block + "dw1.weight" in shape,
        "mlp_ratio": shape[block + "mlp.fc1.weight"][0] / width,
    }


def _davit(shape: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    width = shape["backbone.convs.0.proj.weight"][0]
    return {
        "name": "davit",
        "width": width,
        "depths": [_count(shape, rf"backbone\.blocks\.{stage}\.(\d+)\.") for stage in range(4)],
        "kernels": [shape[f"backbone.convs.{stage}.proj.weight"][-1] for stage in range(4)],
        "mlp_ratio": shape["backbone.blocks.0.0.spatial_block.ffn.fn.net.fc1.weight"][0] / width,
    }


def _pixel_decoder(shape: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    layers = PIXELS + "transformer.encoder.layers."
    settings = {
        "name": "fpn",
        "width": shape[PIXELS + "mask_features.weight"][0],
        "layers": _count(shape, re.escape(layers) + r"(\d+)\."),
        "heads": HEADS,
        "hidden": shape[layers + "0.linear1.weight"][0],
    }
    offsets = layers + "0.self_attn.sampling_offsets.bias"
    if offsets not in shape:
        return settings
    levels = shape[PIXELS + "transformer.level_embed"][0]
    return settings | {"name": "deformable", "points": shape[offsets][0] // (2 * HEADS * levels)}


def _count(shape: Mapping[str, tuple[int, ...]], pattern: str) -> int:
    """How many different numbers stand where the pattern has its group."""
    return len({found[1] for name in shape if (found := re.match(pattern, name))})
