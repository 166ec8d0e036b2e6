"""SED's published weights: their names, in one table that is read in both directions, and the network that they belong to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from xdecoder.config import parse
from xdecoder.sed.model import SedConfig

PREDICTOR = "sem_seg_head.predictor."
TEXT = PREDICTOR + "clip_model.token_embedding.weight"

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
