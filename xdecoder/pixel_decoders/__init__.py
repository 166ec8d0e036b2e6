"""Pixel decoders: backbone maps in, mask features and the decoder's three maps out."""

from typing import Annotated

from pydantic import Field

from xdecoder.pixel_decoders.deformable import DeformableConfig
from xdecoder.pixel_decoders.fpn import FpnConfig

PixelDecoderConfig = Annotated[FpnConfig | DeformableConfig, Field(discriminator="name")]

__all__ = ["DeformableConfig", "FpnConfig", "PixelDecoderConfig"]
