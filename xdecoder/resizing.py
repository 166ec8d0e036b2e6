"""How an image is resized before a network sees it: values that an experiment, a data set and a checkpoint can carry."""

from __future__ import annotations

from typing import Annotated, Literal

from PIL import Image
from pydantic import Field

from xdecoder.config import Config

Pixels = Annotated[int, Field(gt=0, le=8192)]


class ShortestEdge(Config):
    """Resize so that the short side is `size`, but the long one at most `max_size` (published for measuring)."""

    name: Literal["shortest_edge"] = "shortest_edge"
    size: Pixels = 800
    max_size: Pixels = 1333

    @property
    def bicubic(self) -> bool:
        return False

    def shape(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of an image of this height and width, once it is resized."""
        factor = min(self.size / min(size), self.max_size / max(size))
        return max(1, int(size[0] * factor + 0.5)), max(1, int(size[1] * factor + 0.5))


class ShortestSide(Config):
    """As torchvision resizes: the short side is `size`, bicubic, however long the other one becomes.

    So the published numbers on SUN RGB-D, ScanNet, BDD and SegInW were measured.
    """

    name: Literal["shortest_side"] = "shortest_side"
    size: Pixels = 512
    crop: Pixels | None = None
    """Side of the square that is cut out of the middle, for a picture's class; None: all is kept."""

    @property
    def bicubic(self) -> bool:
        return True

    def shape(self, size: tuple[int, int]) -> tuple[int, int]:
        """As `ShortestEdge.shape`, before the crop."""
        height, width = (self.size if side == min(size) else int(self.size * side / min(size)) for side in size)
        return height, width


class Stretch(Config):
    """Resize to a square whatever the aspect (published for image-text pairs: 224)."""

    name: Literal["stretch"] = "stretch"
    size: Pixels = 224
    bicubic: bool = False
    """Published for questions; pairs are resized bilinearly."""

    def shape(self, size: tuple[int, int]) -> tuple[int, int]:
        """As `ShortestEdge.shape`."""
        return self.size, self.size


Resizing = Annotated[ShortestEdge | ShortestSide | Stretch, Field(discriminator="name")]


def resized(image: Image.Image, how: ShortestEdge | ShortestSide | Stretch) -> Image.Image:
    """The whole image as it is measured; a crop is left to those who have no need of the rest."""
    height, width = how.shape((image.height, image.width))
    if (width, height) == image.size:
        return image
    return image.resize((width, height), Image.Resampling.BICUBIC if how.bicubic else Image.Resampling.BILINEAR)
