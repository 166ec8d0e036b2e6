"""Pictures in, results out: what most users call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from xdecoder import drawing
from xdecoder.model import XDecoder
from xdecoder.readout import ReadoutConfig
from xdecoder.tasks import TasksConfig, predict
from xdecoder.tasks.segmentation import SegmentationConfig
from xdecoder.types import Batch, Phrases, ReferringResult, Sample, SegmentationResult, Vocabulary

Picture = str | Path | Image.Image | np.ndarray | Tensor


@dataclass(frozen=True)
class SegmentedPicture:
    """A picture with its semantic, instance and panoptic result at the picture's size."""

    image: Image.Image
    vocabulary: Vocabulary
    result: SegmentationResult

    def draw(self, kind: str = "panoptic") -> Image.Image:
        """The picture with its segments painted over; kind: "panoptic", "semantic" or "instances"."""
        if kind == "semantic" and self.result.semantic is not None:
            return drawing.draw_semantic(self.image, self.result.semantic, self.vocabulary)
        if kind == "instances" and self.result.instances is not None:
            return drawing.draw_instances(self.image, self.result.instances, self.vocabulary)
        if kind == "panoptic" and self.result.panoptic is not None:
            return drawing.draw_panoptic(self.image, self.result.panoptic, self.vocabulary)
        raise ValueError(f"cannot draw {kind!r}; choose panoptic, semantic or instances")


@dataclass(frozen=True)
class ReferredPicture:
    """A picture with one region per phrase."""

    image: Image.Image
    phrases: tuple[str, ...]
    result: ReferringResult

    def draw(self) -> Image.Image:
        return drawing.draw_masks(self.image, self.result.masks, self.phrases)


class Predictor:
    """Asks a trained network about pictures given as a path, PIL image, (H, W, 3) uint8 array or (3, H, W) uint8 tensor."""

    def __init__(self, model: XDecoder) -> None:
        self.model = model.eval()

    def segment(
        self, image: Picture, things: Sequence[str], stuff: Sequence[str] = (), object_threshold: float = 0.4
    ) -> SegmentedPicture:
        """Segment with any vocabulary: `things` are counted one by one, each of `stuff` is one region."""
        if not (*things, *stuff):
            raise ValueError("segment needs at least one class name")
        picture = read_picture(image)
        vocabulary = Vocabulary((*things, *stuff), (True,) * len(things) + (False,) * len(stuff))
        readout = ReadoutConfig(object_threshold=object_threshold)
        tasks = TasksConfig(segmentation=SegmentationConfig(readout=readout))
        result = self._ask("segmentation", tasks, _shorter_side(picture, self.model.config.image_size), picture, vocabulary)
        return SegmentedPicture(picture, vocabulary, result)

    def refer(self, image: Picture, phrases: Sequence[str]) -> ReferredPicture:
        """Find what each phrase means. Phrases given together are read together, as in training."""
        picture = read_picture(image)
        shown = _shorter_side(picture, self.model.config.image_size)
        texts = Phrases(tuple(phrases), torch.zeros(len(phrases), 1, 1, dtype=torch.bool))
        result = self._ask("referring", TasksConfig(), shown, picture, phrases=texts)
        return ReferredPicture(picture, tuple(phrases), result)

    def caption(self, image: Picture) -> str:
        """Describe the picture in a sentence."""
        picture = read_picture(image)
        return self._ask("captioning", TasksConfig(), self._square(picture), picture).text

    def match(self, image: Picture, texts: Sequence[str]) -> Tensor:
        """Similarity of the picture and each text, (T,) in -1…1."""
        picture = read_picture(image)
        result = self._ask("retrieval", TasksConfig(), self._square(picture), picture, captions=tuple(texts))
        return (result.texts @ result.image.T).mean(dim=1)

    def _square(self, picture: Image.Image) -> Image.Image:
        side = self.model.config.caption_image_size
        return picture.resize((side, side), Image.Resampling.BILINEAR)

    @torch.inference_mode()
    def _ask(
        self,
        task: str,
        tasks: TasksConfig,
        shown: Image.Image,
        picture: Image.Image,
        vocabulary: Vocabulary | None = None,
        phrases: Phrases | None = None,
        captions: tuple[str, ...] = (),
    ) -> Any:
        pixels = torch.from_numpy(np.array(shown)).permute(2, 0, 1).to(self.model.device)
        sample = Sample("picture", pixels, (picture.height, picture.width), None, phrases, captions)
        batch = Batch((sample,), vocabulary, "your pictures")
        return predict(self.model, tasks.build([task]), batch)[task][0]


def load(source: str | Path, device: torch.device | str = "cpu") -> Predictor:
    """A predictor from a checkpoint: ours or a published X-Decoder, whose architecture is told from what is in the file.

    Args:
        source: a .pt or .safetensors file, `https://…`, `hf://owner/repository/file`, or a folder of `save_pretrained`.

    Raises:
        ValueError: in one sentence, if it is not one.
    """
    # This is the one place of the core that knows of the published room.
    from xdecoder.published.checkpoints import open_checkpoint

    return Predictor(open_checkpoint(source).build(device))


def read_picture(image: Picture) -> Image.Image:
    """RGB picture; raises ValueError naming a file that is missing, truncated or no picture."""
    if isinstance(image, Tensor):
        image = image.permute(1, 2, 0).cpu().numpy()
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"a picture must hold three channels of uint8, not {image.dtype} of shape {image.shape}")
        return Image.fromarray(image)
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    try:
        with Image.open(image) as file:
            return file.convert("RGB")
    except FileNotFoundError:
        raise ValueError(f"{image}: no such picture") from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{image}: not a readable picture ({error})") from None


def _shorter_side(picture: Image.Image, size: int) -> Image.Image:
    scale = size / min(picture.size)
    width, height = (max(round(side * scale), 1) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)
