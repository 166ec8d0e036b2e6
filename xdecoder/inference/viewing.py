"""How a network looks at images: each is encoded once for each way of showing it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from xdecoder.config import parse
from xdecoder.images import pixels, shorter_side
from xdecoder.network import Network
from xdecoder.postprocessing import PostprocessingConfig
from xdecoder.resizing import ShortestEdge, ShortestSide, Stretch, resized
from xdecoder.tasks import TasksConfig, captioning, names, segmentation, vqa
from xdecoder.tasks.descriptor import Descriptor

BATCH = 8  # images that are encoded at a time, on a GPU
OPEN_VOCABULARY = TasksConfig(
    segmentation=segmentation.SegmentationConfig(postprocessing=PostprocessingConfig(object_threshold=0.4)),
)
"""How a network is asked of which it is not known how it was measured."""

Shown = ShortestEdge | ShortestSide | Stretch | str  # a resizing, or the `look` of a task's descriptor


class Viewed:
    """An image, and what the network has seen of it by each way of showing it."""

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self.views: dict[Shown, Any] = {}


class Viewer:
    """A network, ready to look at images, and how it is asked about them.

    Args:
        tasks: how; None: as the network was measured, which its checkpoint tells.
    """

    def __init__(self, model: Network, tasks: TasksConfig | None = None) -> None:
        self.model = model
        asked, fitted = model.protocol.tasks, model.protocol.fitted
        measured = {name: {**asked.get(name, {}), **fitted.get(name, {})} for name in names() if name in {*asked, *fitted}}
        measured = OPEN_VOCABULARY.model_dump(exclude_unset=True) | measured
        self.tasks = tasks or parse(TasksConfig, measured, "the network's protocol")

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.model.device

    def able(self, task: Descriptor) -> Any:
        """The network, of which the task may be asked; raises ValueError, in one sentence, if it may not."""
        self.model.require(task.name)
        return self.model

    def shown(self, task: Descriptor) -> Shown:
        """How images are shown to the network for a task: as they were when it was measured."""
        return self.model.protocol.images.get(task.name) or task.look

    @torch.inference_mode()
    def look(self, pictures: Iterable[Viewed], task: Descriptor) -> None:
        """Encode pictures that have not been looked at as the task does; those of one size together."""
        how = self.shown(task)
        waiting: dict[tuple[int, ...], list[tuple[Viewed, Tensor]]] = {}
        for picture in pictures:
            if how not in picture.views:
                image = pixels(self._show(picture.image, how))
                waiting.setdefault(tuple(image.shape), []).append((picture, image))
        together = 1 if self.device.type == "cpu" else BATCH  # whose caches hold what is made of one image, not of several
        for group in waiting.values():
            for some in (group[i : i + together] for i in range(0, len(group), together)):
                features = self.model.encode([image for _, image in some])
                for b, (picture, _) in enumerate(some):
                    picture.views[how] = features.of(b)

    def _show(self, image: Image.Image, how: Shown) -> Image.Image:
        if not isinstance(how, str):
            return resized(image, how)
        if how == "scene":
            return shorter_side(image, self.model.config.image_size)
        if how == "question":
            side = vqa.head_of(self.able(vqa.DESCRIPTOR)).config.image_size
            return image.resize((side, side), Image.Resampling.BICUBIC)
        side = self.able(captioning.DESCRIPTOR).config.caption_image_size
        return image.resize((side, side), Image.Resampling.BILINEAR)
