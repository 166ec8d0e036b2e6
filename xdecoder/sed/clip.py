"""A ConvNeXt CLIP of open_clip as SED's encoder: dense features in the space shared with texts, and maps of four strides.

open_clip and timm are imported where they are used: that takes seconds, which others should not wait.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from xdecoder.config import Config
from xdecoder.download import fetch
from xdecoder.language.tokenizer import ALL_MERGES, Tokenizer

PIXEL_MEAN = (122.7709383, 116.7460125, 104.09373615)
PIXEL_STD = (68.5005327, 66.6321579, 70.3231630)


class ClipConfig(Config):
    """The encoder: one of open_clip's models with a ConvNeXt, or one whose parts are given here; the default is SED-B's."""

    model: str = "convnext_base_w_320"
    """open_clip's name of the model, such as "convnext_large_d_320"."""
    weights: str | Path | None = None
    """What training starts from: a file, an address (`xdecoder.download.fetch`), or open_clip's tag of published weights."""
    trunk: str | None = None
    """timm's name of another ConvNeXt for the images, such as "convnext_atto"; for networks trained from scratch."""
    layer_scale: float | None = Field(None, gt=0)
    """What the image encoder's branches are multiplied with at first; null: as timm has it, 1e-6, which suits deep networks and
    long trainings."""
    joint_width: int | None = Field(None, gt=0)
    """Size of the space shared by images and texts, if not the model's."""
    text_width: int | None = Field(None, gt=0)
    """Size of a token in the text encoder, if not the model's; a multiple of 64, the size of an attention head."""
    text_layers: int | None = Field(None, ge=0)
    """Blocks of the text encoder, if not the model's. 0 = none: a text is the mean of its tokens, for networks trained from
    scratch, since blocks that never learnt give all texts nearly the same vector."""
    merges: int = Field(ALL_MERGES, ge=0, le=ALL_MERGES)
    """How many of CLIP's byte-pair merges texts are cut with."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Inside the head of a model whose head is an MLP, while training (published SED-L: 0.1)."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Stochastic depth of the image encoder while training (published SED-L: 0.1)."""

    @model_validator(mode="after")
    def _is_a_convnext(self) -> ClipConfig:
        _widths(self.trunk or _model_settings(self.model)["vision_cfg"]["timm_model_name"])
        if self.text_width is not None and self.text_width % 64:
            raise ValueError(f"text_width must be a multiple of 64, not {self.text_width}")
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the maps of strides 4, 8, 16 and 32."""
        return _widths(self.trunk or _model_settings(self.model)["vision_cfg"]["timm_model_name"])

    def build(self) -> Clip:
        return Clip(self)


@dataclass(frozen=True)
class ImageFeatures:
    """What the encoder sees on B images of H × W."""

    dense: Tensor  # (B, C, H/32, W/32) in the space shared with texts, of any length
    maps: tuple[Tensor, ...]  # of strides 4, 8, 16 and 32

    @property
    def skips(self) -> tuple[Tensor, ...]:
        """The maps that join the decoder's stages, of strides 16, 8 and 4: (B, ·, H/16, W/16) and so on."""
        return self.maps[2::-1]

    def of(self, image: int) -> ImageFeatures:
        """One image's, as a batch of one."""
        part = slice(image, image + 1)
        return ImageFeatures(self.dense[part], tuple(x[part] for x in self.maps))


class Clip(nn.Module):
    """open_clip's model, asked for every place of an image rather than for the whole.

    Raises:
        ValueError: for weights that cannot be read or belong to another model.
    """

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        from open_clip.model import CLIP

        settings = _model_settings(config.model)
        text, vision = settings["text_cfg"], settings["vision_cfg"]
        self.tokenizer = Tokenizer(config.merges, text["context_length"])
        text |= {"vocab_size": self.tokenizer.vocab_size}
        text |= {"width": config.text_width, "heads": config.text_width // 64} if config.text_width else {}
        text |= {"layers": config.text_layers or 1} if config.text_layers is not None else {}
        vision |= {"timm_model_name": config.trunk or vision["timm_model_name"], "timm_model_pretrained": False}
        vision |= {"timm_drop": config.dropout, "timm_drop_path": config.drop_path}
        self.model: Any = CLIP(config.joint_width or settings["embed_dim"], vision, text)
        if config.text_layers == 0:
            self.model.transformer.resblocks = nn.ModuleList()
        if config.layer_scale is not None:
            for stage in self.model.visual.trunk.stages:
                for block in stage.blocks:
                    nn.init.constant_(block.gamma, config.layer_scale)
        if config.weights is not None:
            self.start_from(config.weights, config.model)

    @property
    def joint_width(self) -> int:
        width: int = self.model.text_projection.shape[1]
        return width

    def start_from(self, weights: str | Path, model: str) -> None:
        """Fill in published weights of open_clip; raises ValueError for those of another model."""
        from xdecoder import checkpoint  # which itself must know of all networks

        path = fetch(_address(weights, model))
        content = checkpoint.read(path)
        found = content.get("state_dict", content.get("model", content))
        found = {name.removeprefix("module."): value for name, value in found.items() if isinstance(value, Tensor)}
        checkpoint.fill(self.model, found, path)

    def encode_images(self, pixels: Tensor) -> ImageFeatures:
        """pixels: (B, 3, H, W), normalised; H and W multiples of 32.

        The head that CLIP applies to the pooled image is applied to each place: norm and projection, without pooling.
        """
        trunk = self.model.visual.trunk
        x, maps = trunk.stem(pixels), []
        for stage in trunk.stages:
            x = stage(x)
            maps.append(x)
        dense = self.model.visual.head(trunk.head.norm(x).permute(0, 2, 3, 1))
        return ImageFeatures(dense.permute(0, 3, 1, 2), tuple(maps))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Vectors (N, C), not normalised; tokens behind the longest text are not computed, since none before looks at them."""
        model = self.model
        ids = self.tokenizer.encode(texts).to(model.positional_embedding.device)
        if not model.transformer.resblocks:
            return self._mean_of_tokens(ids)
        length = ids.shape[1]
        x = model.token_embedding(ids) + model.positional_embedding[:length]
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
        ends = (ids == self.tokenizer.end).int().argmax(dim=1)
        vectors: Tensor = x[torch.arange(len(ids), device=ids.device), ends] @ model.text_projection
        return vectors

    def _mean_of_tokens(self, ids: Tensor) -> Tensor:
        """Texts (N, n) without the tokens at their start and end, as vectors (N, C)."""
        inside = (ids != self.tokenizer.start) & (ids != self.tokenizer.end)
        total = (self.model.token_embedding(ids) * inside[..., None]).sum(dim=1) / inside.sum(dim=1, keepdim=True).clamp(min=1)
        vectors: Tensor = total @ self.model.text_projection
        return vectors

    def text_parameters(self) -> list[nn.Parameter]:
        """All that texts pass through, and the temperature, which SED does not use: never trained."""
        return [parameter for name, parameter in self.model.named_parameters() if not name.startswith("visual.")]


def _model_settings(name: str) -> dict[str, Any]:
    """open_clip's own description of a model, a copy; raises ValueError for one without a ConvNeXt."""
    import open_clip

    settings: dict[str, Any] | None = open_clip.get_model_config(name)
    known = [model for model in open_clip.list_models() if model.startswith("convnext")]
    if settings is None or "convnext" not in settings["vision_cfg"].get("timm_model_name", ""):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(known)}"
        raise ValueError(f"model {name!r} is not a ConvNeXt CLIP of open_clip; {hint}")
    return settings


@lru_cache(maxsize=16)
def _widths(trunk: str) -> tuple[int, ...]:
    import timm
    from timm.models.convnext import ConvNeXt

    if not timm.is_model(trunk):
        close = difflib.get_close_matches(trunk, timm.list_models("convnext*"), n=1)
        raise ValueError(f"trunk {trunk!r} is not known to timm" + (f"; did you mean {close[0]!r}?" if close else ""))
    with torch.device("meta"):
        network = timm.create_model(trunk)
    if not isinstance(network, ConvNeXt):
        raise ValueError(f"trunk {trunk!r} is not a ConvNeXt, which SED is built on; expected one such as 'convnext_atto'")
    features: Any = network.feature_info
    return tuple(info["num_chs"] for info in features)


def _address(weights: str | Path, model: str) -> str:
    """Where a tag's weights lie; anything that is no tag of the model is an address itself."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    cfg = get_pretrained_cfg(model, str(weights)) if str(weights) in list_pretrained_tags_by_model(model) else {}
    if not cfg.get("hf_hub"):
        return str(weights)
    return f"hf://{cfg['hf_hub'].rstrip('/')}/open_clip_model.safetensors"
