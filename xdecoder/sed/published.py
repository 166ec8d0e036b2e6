"""SED's published weights: their names, in one table that is read in both directions."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_PREDICTOR = "sem_seg_head.predictor."

# Published name below the predictor, our name; `#` is a number, `*` the rest. The first row that fits counts.
_ROWS = (
    ("clip_model.*", "clip.model.*"),
    ("transformer.conv1.*", "decoder.embed.*"),
    ("transformer.decoder_guidance_projection.#.0.*", "decoder.image_skips.#.*"),
    ("transformer.decoder_corr_guidance_projection.#.0.*", "decoder.cost_skips.#.*"),
    ("transformer.head.*", "decoder.head.*"),
)
