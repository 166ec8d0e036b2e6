"""Backbones: a picture in, four maps of strides 4, 8, 16 and 32 out."""

from xdecoder.backbones.focal import FocalConfig as BackboneConfig

__all__ = ["BackboneConfig"]
