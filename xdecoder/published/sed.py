"""SED's published weights: their names, in one table that is read in both directions, and the network that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from xdecoder.config import parse
from xdecoder.published.names import compile_names, translate
from xdecoder.sed.model import SedConfig

PREDICTOR = "sem_seg_head.predictor."
_CLIP = PREDICTOR + "clip_model."
_DECODER = PREDICTOR + "transformer."
_MODELS = {640: "convnext_base_w_320", 768: "convnext_large_d_320"}  # by the width of the space that images and texts share
_IMAGENET = 80  # templates

# Published name behind the predictor's, our name: `#` is a number, `*` the rest. The first row that fits is taken.
_STAGE = (
    ("up.*", "up.*"),
    ("cnext.gamma", "spatial.scale"),
    ("cnext.dwconv.*", "spatial.depthwise.*"),
    ("cnext.norm.*", "spatial.norm.*"),
    ("cnext.pwconv#.*", "spatial.linear#.*"),
    ("attention.attention.q.*", "classes.query.*"),
    ("attention.attention.k.*", "classes.key.*"),
    ("attention.attention.v.*", "classes.value.*"),
    ("attention.MLP.0.*", "classes.linear1.*"),
    ("attention.MLP.2.*", "classes.linear2.*"),
    ("attention.norm#.*", "classes.norm#.*"),
    ("conv.double_conv.0.*", "conv1.*"),
    ("conv.double_conv.1.*", "norm1.*"),
    ("conv.double_conv.3.*", "conv2.*"),
    ("conv.double_conv.4.*", "norm2.*"),
)
_ROWS = (
    ("clip_model.*", "clip.model.*"),
    ("transformer.conv1.*", "decoder.embed.*"),
    ("transformer.decoder_guidance_projection.#.0.*", "decoder.image_skips.#.*"),
    ("transformer.decoder_corr_guidance_projection.#.0.*", "decoder.cost_skips.#.*"),
    *((f"transformer.decoder{i + 1}.{a}", f"decoder.stages.{i}.{b}") for i in range(3) for a, b in _STAGE),
    ("transformer.head.*", "decoder.head.*"),
    ("transformer.head#.*", "decoder.auxiliary_heads.#.*"),
)
_PAIRS = [(PREDICTOR + published, ours) for published, ours in _ROWS]
_TO_OURS = compile_names(_PAIRS)
_TO_PUBLISHED = compile_names((ours, published) for published, ours in _PAIRS)


def is_sed(weights: Mapping[str, Tensor]) -> bool:
    """Whether these weights, of any shapes, have the names of a whole SED: CLIP and the decoder."""
    return all(any(name.startswith(part) for name in weights) for part in (_CLIP, _DECODER))


def whole_name(name: str) -> str:
    """The published name, in the whole network, of a weight in a file of open_clip's."""
    return name if name.startswith(PREDICTOR) else _CLIP + name


def convert(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dictionary under our names, shapes unchanged; what SED does not have keeps its own."""
    return {translate(name, _TO_OURS): value for name, value in weights.items()}


def to_published_state(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`Sed.state_dict()` under the published names, shapes unchanged."""
    return {translate(name, _TO_PUBLISHED): value for name, value in weights.items()}


def architecture(weights: Mapping[str, Tensor], path: str | Path) -> SedConfig:
    """The settings of the network whose published names and shapes these are.

    Raises:
        ValueError: naming `path`, for a CLIP that was not published with SED or another decoder.
    """
    try:
        joint, templates = weights[_CLIP + "text_projection"].shape[1], weights[_DECODER + "conv1.weight"].shape[1]
        settings: dict[str, Any] = {"name": "sed", "clip": _clip(joint, path), "templates": _templates(templates, path)}
        settings["decoder"] = {
            "width": weights[_DECODER + "conv1.weight"].shape[0],
            "widths": [weights[f"{_DECODER}decoder{i}.conv.double_conv.0.weight"].shape[0] for i in (1, 2, 3)],
            "skip_widths": [weights[f"{_DECODER}decoder_guidance_projection.{i}.0.weight"].shape[0] for i in range(3)],
            "kernel": weights[_DECODER + "decoder1.cnext.dwconv.weight"].shape[-1],
        }
    except KeyError as error:
        raise ValueError(f"{path}: the checkpoint lacks {error.args[0]!r}, without which its architecture is unknown") from None
    return parse(SedConfig, settings, where=str(path))


def _clip(joint: int, path: str | Path) -> dict[str, Any]:
    if joint not in _MODELS:
        widths = " or ".join(map(str, _MODELS))
        raise ValueError(f"{path}: a SED whose CLIP has a joint space of {joint}; the published ones have {widths}")
    large = joint == max(_MODELS)
    return {"model": _MODELS[joint], **({"dropout": 0.1, "drop_path": 0.1} if large else {})}


def _templates(count: int, path: str | Path) -> str:
    if count not in (1, _IMAGENET):
        raise ValueError(f"{path}: a SED of {count} templates; expected {_IMAGENET} (imagenet) or 1 (single)")
    return "single" if count == 1 else "imagenet"
