"""Weights that others published: read into our network, and written as the original would have written them."""

from __future__ import annotations

import logging
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from xdecoder import checkpoint
from xdecoder.checkpoint import Checkpoint
from xdecoder.download import fetch
from xdecoder.limits import check_weights
from xdecoder.network import Network, NetworkConfig
from xdecoder.published import detect, sed
from xdecoder.published.names import BUFFERS, convert, strip_prefixes, to_published_state

logger = logging.getLogger(__name__)

_WRAPPERS = ("model", "state_dict", "model_state_dict", "module")
_NESTED = 4  # wrappers within wrappers

# What backbone and text encoder files put before their names, and what X-Decoder puts there. The first row that fits counts.
_PARTS = (
    ("image_encoder.", "backbone."),
    ("visual.", "backbone."),
    ("image_projection", "backbone_proj"),
    ("text_encoder.lang_encoder.", detect.TEXT + "lang_encoder."),
    ("text_encoder.transformer.", detect.TEXT + "lang_encoder."),
    ("text_encoder.", detect.TEXT + "lang_encoder."),
    ("lang_encoder.lang_encoder.", detect.TEXT + "lang_encoder."),
    ("lang_encoder.lang_proj", detect.TEXT + "lang_proj"),
    ("lang_encoder.logit_scale", detect.TEXT + "logit_scale"),
    ("lang_encoder.", detect.TEXT + "lang_encoder."),
    ("lang_projection", detect.TEXT + "lang_proj"),
    ("lang_proj", detect.TEXT + "lang_proj"),
    ("text_projection", detect.TEXT + "lang_proj"),
    ("logit_scale", detect.TEXT + "logit_scale"),
    ("transformer.resblocks.", detect.TEXT + "lang_encoder.resblocks."),
    *(
        (name, detect.TEXT + "lang_encoder." + name)
        for name in ("resblocks.", "token_embedding.", "positional_embedding", "ln_final.")
    ),
    *(
        (name, "backbone." + name)
        for name in ("patch_embed.", "layers.", "norm0.", "norm1.", "norm2.", "norm3.", "convs.", "blocks.")
    ),
)


@dataclass(frozen=True)
class Initialised:
    """What `initialise` did, by our names (`unused`: by the file's)."""

    filled: tuple[str, ...]
    resized: tuple[str, ...]  # among those filled: kernels padded or cropped
    other_shape: tuple[str, ...]
    unused: tuple[str, ...]
    new: tuple[str, ...]  # what the file does not hold and stays as it was

    def __str__(self) -> str:
        parts = {name.partition(".")[0] for name in self.filled}
        return (
            f"{len(self.filled)} weights of {', '.join(sorted(parts))} filled ({len(self.resized)} kernels padded or cropped); "
            f"{len(self.other_shape)} of another shape and {len(self.unused)} unknown left out; "
            f"{len(self.new)} are new{self._which()}"
        )

    def _which(self) -> str:
        parts = {".".join(name.split(".")[:2]) for name in self.new}
        return f": {', '.join(sorted(parts))}" if 0 < len(parts) <= 8 else ""


def open_checkpoint(source: str | Path, answers: Sequence[str] | None = None, version: str | None = None) -> Checkpoint:
    """Architecture and weights of one of our files or a published one, wherever it lies (`xdecoder.download.fetch`).

    Args:
        answers: what a published answer head chooses from, if not from the published 3129; our own files say it themselves.
        version: of a published SEEM, "v0", "v1" or "demo"; by default the file's name tells it.

    Raises:
        ValueError: in one sentence, for what cannot be read or is neither an X-Decoder nor a SEEM of a known version.
    """
    path = fetch(source)
    content = _read(path)
    if "format" not in content:
        return interpret(content, path, answers, version)
    if version is not None:
        raise ValueError(f"{path}: one of our own files, which knows its version; leave version out")
    return checkpoint.interpret(content, path)


def interpret(
    content: Mapping[str, Any], path: Path, answers: Sequence[str] | None = None, version: str | None = None
) -> Checkpoint:
    """A published file's content; weights that the network has no place for are left out with a warning.

    Raises:
        ValueError: for another network, a part of one, or missing weights.
    """
    weights = _weights_in(content, path)
    config: NetworkConfig
    if sed.is_sed(weights):
        config, converted = sed.architecture(weights, path), sed.convert(weights)
    else:
        config, converted = detect.architecture(weights, path, answers, version), convert(weights)
    names = checkpoint.outline(config, path)
    missing = [name for name in names if name not in converted]
    if missing:
        raise ValueError(
            f"{path}: the checkpoint lacks {len(missing)} weights of its network ({config.name}), for example {missing[0]!r}"
        )
    unused = [name for name in converted if name not in names]
    if unused:
        logger.warning("%s: %d entries are not used, for example %r", path, len(unused), unused[0])
    return Checkpoint(config, {name: converted[name] for name in names}, path, inferred=True)


def save(model: Network, path: str | Path) -> None:
    """Write what the original's trainer would have written: its names, its constants, nothing else.

    Raises:
        ValueError: for a network that the original cannot build.
    """
    if model.config.name not in ("xdecoder", "seem", "sed"):
        raise ValueError(f"{path}: {model.cannot('be written in a published format')}; use xdecoder.checkpoint.save")
    if getattr(getattr(model.config, "backbone", None), "name", "") == "timm":
        known = "the published format knows Focal and DaViT backbones, not timm's"
        raise ValueError(f"{path}: {known}; use xdecoder.checkpoint.save")
    if getattr(getattr(model.config, "answers", None), "masked_latents", False):
        known = "answers that share their latent queries with segmentation have no published form"
        raise ValueError(f"{path}: {known}; use xdecoder.checkpoint.save")
    published = sed.to_published_state if model.config.name == "sed" else to_published_state
    state = {name: value.detach().cpu() for name, value in published(model.state_dict()).items()}
    checkpoint.write({"model": state} if Path(path).suffix == ".safetensors" else state, path)


def initialise(model: Network, source: str | Path) -> Initialised:
    """Fill what a file holds of the network, to start training from it; the rest stays as it is.

    Takes UniCL, CLIP and FocalNet files (a backbone, a text encoder or both), published and our own checkpoints. Depth-wise
    kernels of another size are padded or cropped around their centre.

    Raises:
        ValueError: if nothing in the file fits.
    """
    path = fetch(source)
    content = _read(path)
    weights = _weights_in(content, path)
    ours = "format" in content
    found = weights if ours else _as_ours(weights, model.config.name)
    own = model.state_dict()
    fitting = {name: _fit(value, own[name]) for name, value in found.items() if name in own}
    filled = {name: value for name, value in fitting.items() if value.shape == own[name].shape}
    if not filled:
        expected = "expected a FocalNet, DaViT, UniCL, CLIP or X-Decoder file"
        raise ValueError(f"{path}: none of its {len(weights)} weights fits the network; {expected}")
    checkpoint.check_numbers(filled, own, path)
    model.load_state_dict(filled, strict=False)
    done = Initialised(
        filled=tuple(filled),
        resized=tuple(name for name in filled if found[name].shape != own[name].shape),
        other_shape=tuple(name for name in fitting if name not in filled),
        unused=tuple(name for name in found if name not in own),
        new=tuple(name for name in own if name not in filled),
    )
    logger.info("%s: %s", path, done)
    return done


def _as_ours(weights: Mapping[str, Tensor], network: str) -> dict[str, Tensor]:
    """A published file's weights under our names, be it of a whole network of this kind or of a part."""
    if network == "sed":
        return sed.convert({sed.whole_name(name): value for name, value in weights.items()})
    return convert({_whole_name(name): value for name, value in weights.items()})


def _read(path: Path) -> dict[str, Any]:
    try:
        return checkpoint.read(path)
    except ValueError:
        other = _pickled_network(path)
        if other:
            raise ValueError(f"{path}: {other}; {detect.EXPECTED}") from None
        raise


def _pickled_network(path: Path) -> str | None:
    """What a file that is not safe to unpickle is, by the names that it mentions; its bytes are searched, nothing is run."""
    if not path.is_file() or path.stat().st_size == 0:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return detect.other_network(lambda part: content.find(part.encode()) >= 0)


def _weights_in(whole: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The state dictionary in a file, out of its wrapper and without prefixes."""
    content = whole
    for _ in range(_NESTED):
        content = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), content)
    weights = checkpoint.unwrapped(content if "format" in whole else _tensors(content))
    if not weights:
        raise ValueError(f"{path}: holds no weights; {detect.EXPECTED}")
    check_weights(weights, path)
    try:
        return strip_prefixes(weights)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _tensors(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Without what others keep beside their weights."""
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def _whole_name(name: str) -> str:
    """The published name, in the whole network, of a weight in a backbone's or text encoder's file."""
    if name.startswith(("backbone.", "backbone_proj", "sem_seg_head.")) or name in BUFFERS:
        return name
    for start, whole in _PARTS:
        if name.startswith(start):
            return whole + name.removeprefix(start)
    return name


def _fit(value: Tensor, own: Tensor) -> Tensor:
    """A depth-wise kernel of another size, centred in one of our size; anything else as it is."""
    depthwise = value.dim() == own.dim() == 4 and value.shape[:2] == own.shape[:2] and value.shape[1] == 1
    if not depthwise or value.shape == own.shape or (value.shape[-1] - own.shape[-1]) % 2:
        return value
    margins = [(own.shape[axis] - value.shape[axis]) // 2 for axis in (-1, -1, -2, -2)]
    return F.pad(value, margins)  # negative margins crop
