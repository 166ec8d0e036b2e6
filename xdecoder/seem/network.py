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
    words_learn: Literal["position", "content"] = "content"
    attention: AttentionTable = V1

    def build(self, published_quirks: bool = False) -> Decoder:
        """SEEM's weights have none of X-Decoder's quirks but one: masks are made at full size."""
        return Decoder(self, self.attention.model_copy(update={"full_size_masks": published_quirks}))


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
