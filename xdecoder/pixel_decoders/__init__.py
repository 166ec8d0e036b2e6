"""Pixel decoders: backbone maps in, mask features and the decoder's three maps out."""

from xdecoder.pixel_decoders.fpn import FpnConfig as PixelDecoderConfig

__all__ = ["PixelDecoderConfig"]
