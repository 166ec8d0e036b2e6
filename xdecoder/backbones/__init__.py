"""Backbones: a picture in, four maps of strides 4, 8, 16 and 32 out."""

from typing import Annotated

from pydantic import Field

from xdecoder.backbones.davit import DavitConfig
from xdecoder.backbones.focal import FocalConfig
from xdecoder.backbones.sam import SamConfig
from xdecoder.backbones.timm import TimmConfig
from xdecoder.backbones.vit import VitConfig

BackboneConfig = Annotated[FocalConfig | DavitConfig | SamConfig | TimmConfig | VitConfig, Field(discriminator="name")]

__all__ = ["BackboneConfig", "DavitConfig", "FocalConfig", "SamConfig", "TimmConfig", "VitConfig"]
