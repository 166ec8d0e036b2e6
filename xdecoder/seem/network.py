"""SEEM: X-Decoder's decoder with strokes, their queries and a memory (Zou et al., 2023)."""

from __future__ import annotations

from typing import ClassVar, Literal

from xdecoder.decoder.attention import AttentionTable
from xdecoder.decoder.decoder import Decoder, DecoderConfig
from xdecoder.model import EncoderDecoder, EncoderDecoderConfig
from xdecoder.seem.encoder import StrokeEncoder, StrokesConfig
from xdecoder.seem.tables import V1


class SeemDecoderConfig(DecoderConfig):
    """The shared decoder; all its latent queries stand for objects, and it knows no captions."""

    image_token: bool = False
    caption_length: int | None = None
    attention: AttentionTable = V1


class SeemConfig(EncoderDecoderConfig):
    """SEEM; the defaults are the published Focal-T of version v1."""

    name: Literal["seem"] = "seem"
    decoder: SeemDecoderConfig = SeemDecoderConfig()
    strokes: StrokesConfig = StrokesConfig()

    def build(self) -> Seem:
        return Seem(self)


class Seem(EncoderDecoder):
    """Segment everything everywhere: strokes, phrases and examples as prompts of one decoder."""

    config: SeemConfig
    strokes: StrokeEncoder
    tasks: ClassVar[tuple[str, ...] | None] = ("segmentation", "referring", "interactive")

    def __init__(self, config: SeemConfig) -> None:
        table = config.decoder.attention
        if config.published_quirks:
            table = table.model_copy(update={"full_size_masks": True})
        super().__init__(config, Decoder(config.decoder, table))
