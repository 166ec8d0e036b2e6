"""Images in, results out: what most users call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
from torch import Tensor

from xdecoder.defaults import LEAST_SCORE
from xdecoder.files import shown
from xdecoder.images import ImageLike, images_in, open_image
from xdecoder.inference import places
from xdecoder.inference.example import Example
from xdecoder.inference.picture import Picture, captions
from xdecoder.inference.places import Mask
from xdecoder.inference.results import (
    Answer,
    Everything,
    Found,
    Instances,
    Panoptic,
    Ranking,
    Regions,
    Semantic,
    Several,
)
from xdecoder.inference.viewing import BATCH, Viewer
from xdecoder.network import Network
from xdecoder.regions import EverythingConfig
from xdecoder.shipped import named_or_shipped
from xdecoder.tasks import TasksConfig, interactive, referring, retrieval, segmentation, vqa
from xdecoder.tasks.descriptor import Descriptor

Answered = TypeVar("Answered")
One = ImageLike | Picture
Many = list[Any] | tuple[Any, ...]  # of the former


class Predictor(Viewer):
    """Asks a trained network about images.

    An image is a path or open file, a PIL image, an array or tensor (`xdecoder.images.ImageLike`), or what `encode` gave.
    A list of images gets a list of answers; images of one size are encoded together. `Picture` says what the questions mean.

    Args:
        model: the network; it is put into evaluation mode, and changed by dtype and compile.
        dtype: of the weights that read images, for example torch.bfloat16; texts are read in full precision.
        compile: let torch.compile make the encoder faster, for any size of image; the first image then takes its time.
        tasks: how the network is to be asked: templates, thresholds, early rejection; None: as it was measured, which its
            checkpoint tells.
    """

    def __init__(
        self,
        model: Network,
        dtype: torch.dtype = torch.float32,
        compile: bool = False,
        tasks: TasksConfig | None = None,
    ) -> None:
        super().__init__(model, tasks)
        model.for_inference(dtype, compile)

    def __repr__(self) -> str:
        weights = sum(parameter.numel() for parameter in self.model.parameters()) / 1e6
        templates, size = self.tasks.of(segmentation.DESCRIPTOR.name).templates, getattr(self.model.config, "image_size", None)
        asked = f"templates={templates!r}, image_size={size}"
        known = " ".join(filter(None, (self.model.protocol.knowledge, self.limits and f"[{self.limits}]")))
        about = ", ".join(filter(None, (f"{weights:.1f} million weights", str(self.device), asked, known)))
        return f"{type(self).__name__}({self.model.config.name}, {about})"

    @property
    def limits(self) -> str:
        """What the network cannot know, in a sentence for whoever asks it; empty where nothing is known of it."""
        return self.model.protocol.limits

    def to(self, device: torch.device | str) -> Predictor:
        """The same predictor with its network on another device; pictures that it has encoded are to be encoded anew."""
        self.model.to(device)
        return self

    @overload
    def encode(self, image: One) -> Picture: ...
    @overload
    def encode(self, image: Many) -> list[Picture]: ...
    def encode(self, image: Any) -> Any:
        """An image that remembers what was computed of it, for many questions about it."""
        if (several := images_in(image)) is not None:
            return [self.encode(each) for each in several]
        return image if isinstance(image, Picture) else Picture(self, open_image(image))

    @overload
    def segment(self, image: One, names: Sequence[str], threshold: float = 0.0, tile: int | None = None) -> Semantic: ...
    @overload
    def segment(self, image: Many, names: Sequence[str], threshold: float = 0.0, tile: int | None = None) -> list[Semantic]: ...
    def segment(self, image: Any, names: Sequence[str], threshold: float = 0.0, tile: int | None = None) -> Any:
        """As `Picture.segment`, of an image or of each of a list."""
        return self._each(
            image, lambda picture: picture.segment(names, threshold, tile), None if tile else segmentation.DESCRIPTOR
        )

    @overload
    def panoptic(
        self,
        image: One,
        things: Sequence[str],
        stuff: Sequence[str] = (),
        threshold: float | None = None,
        tile: int | None = None,
    ) -> Panoptic: ...
    @overload
    def panoptic(
        self,
        image: Many,
        things: Sequence[str],
        stuff: Sequence[str] = (),
        threshold: float | None = None,
        tile: int | None = None,
    ) -> list[Panoptic]: ...
    def panoptic(
        self,
        image: Any,
        things: Sequence[str],
        stuff: Sequence[str] = (),
        threshold: float | None = None,
        tile: int | None = None,
    ) -> Any:
        """As `Picture.panoptic`, of an image or of each of a list."""
        task = None if tile else segmentation.DESCRIPTOR
        return self._each(image, lambda picture: picture.panoptic(things, stuff, threshold, tile), task)

    @overload
    def instances(self, image: One, names: Sequence[str], threshold: float = LEAST_SCORE) -> Instances: ...
    @overload
    def instances(self, image: Many, names: Sequence[str], threshold: float = LEAST_SCORE) -> list[Instances]: ...
    def instances(self, image: Any, names: Sequence[str], threshold: float = LEAST_SCORE) -> Any:
        """As `Picture.instances`, of an image or of each of a list."""
        return self._each(image, lambda picture: picture.instances(names, threshold), segmentation.DESCRIPTOR)

    @overload
    def refer(
        self, image: One, phrases: Sequence[str], threshold: float | None = None, together: bool | None = None
    ) -> Regions: ...
    @overload
    def refer(
        self, image: Many, phrases: Sequence[str], threshold: float | None = None, together: bool | None = None
    ) -> list[Regions]: ...
    def refer(self, image: Any, phrases: Sequence[str], threshold: float | None = None, together: bool | None = None) -> Any:
        """As `Picture.refer`, of an image or of each of a list."""
        return self._each(image, lambda picture: picture.refer(phrases, threshold, together), referring.DESCRIPTOR)

    @overload
    def refer_all(self, image: One, phrases: Sequence[str], threshold: float | None = None) -> Several: ...
    @overload
    def refer_all(self, image: Many, phrases: Sequence[str], threshold: float | None = None) -> list[Several]: ...
    def refer_all(self, image: Any, phrases: Sequence[str], threshold: float | None = None) -> Any:
        """As `Picture.refer_all`, of an image or of each of a list."""
        return self._each(image, lambda picture: picture.refer_all(phrases, threshold), referring.DESCRIPTOR)

    @overload
    def everything(self, image: One, names: Sequence[str] = (), config: EverythingConfig | None = None) -> Everything: ...
    @overload
    def everything(
        self, image: Many, names: Sequence[str] = (), config: EverythingConfig | None = None
    ) -> list[Everything]: ...
    def everything(self, image: Any, names: Sequence[str] = (), config: EverythingConfig | None = None) -> Any:
        """As `Picture.everything`, of an image or of each of a list."""
        return self._each(image, lambda picture: picture.everything(names, config), segmentation.DESCRIPTOR)

    @overload
    def caption(self, image: One, region: Mask | None = None, **generation: Any) -> str: ...
    @overload
    def caption(self, image: Many, region: Sequence[Mask | None] | None = None, **generation: Any) -> list[str]: ...
    def caption(self, image: Any, region: Any = None, **generation: Any) -> Any:
        """As `Picture.caption`; for a list of images `region` is a list, in which None stands for all of an image."""
        if (several := images_in(image)) is None:
            return self.caption([image], [region], **generation)[0]
        regions = [None] * len(several) if region is None else list(region)
        if len(regions) != len(several):
            raise ValueError(f"{len(several)} pictures need as many regions, not {len(regions)}")
        return captions(self, ((self.encode(each), mask) for each, mask in zip(several, regions, strict=True)), **generation)

    @overload
    def match(self, image: One, texts: Sequence[str]) -> Tensor: ...
    @overload
    def match(self, image: Many, texts: Sequence[str]) -> list[Tensor]: ...
    def match(self, image: Any, texts: Sequence[str]) -> Any:
        """As `Picture.match`, of an image or of each of a list."""
        return self._each(image, lambda picture: picture.match(texts), retrieval.DESCRIPTOR)

    def retrieve(self, images: Sequence[One], text: str) -> Ranking:
        """Images by how well they fit a text."""
        if isinstance(images, str) or not isinstance(images, Sequence):
            raise ValueError(f"images must be a list of pictures, not {shown(images)}")
        if not images:
            raise ValueError("retrieve needs at least one picture")
        scores = [similar.item() for similar in self.match(list(images), [text])]
        return Ranking(tuple(sorted(range(len(scores)), key=lambda i: -scores[i])), tuple(scores))

    def find(self, images: Sequence[One], text: str) -> Found:
        """The image that fits a text best, and in it the region that the text means."""
        ranking = self.retrieve(images, text)
        best = ranking.order[0]
        return Found(best, self.refer(images[best], [text]), ranking)

    @torch.inference_mode()
    def find_like(self, reference: One, mask: Mask, images: Sequence[One]) -> list[Regions]:
        """The same thing in other images.

        Args:
            reference: an image that shows it.
            mask: (H, W) where it is there, or part of it.

        Returns:
            For each image one region, whose score is the cosine of what was found and what was marked.

        Raises:
            ValueError: for a network that reads no strokes, or a mask of another size than the reference or without pixels.
        """
        encoder, seen = interactive.strokes_of(self.able(interactive.DESCRIPTOR)), self.encode(reference)
        marked = places.marked(mask, seen.image)
        example = Example.of(encoder, seen.view(interactive.DESCRIPTOR), marked[None])

        def look(picture: Picture) -> Regions:
            return example.find(picture.image, picture.view(interactive.DESCRIPTOR), ("like the example",))

        found = self._each(list(images), look, interactive.DESCRIPTOR)
        assert isinstance(found, list)
        return found

    @overload
    def answer(self, image: One, question: str) -> Answer: ...
    @overload
    def answer(self, image: Many, question: str) -> list[Answer]: ...
    def answer(self, image: Any, question: str) -> Any:
        """As `Picture.answer`, of an image or of each of a list."""
        vqa.head_of(self.able(vqa.DESCRIPTOR))
        return self._each(image, lambda picture: picture.answer(question), vqa.DESCRIPTOR)

    def _each(self, image: Any, ask: Callable[[Picture], Answered], task: Descriptor | None) -> Answered | list[Answered]:
        """What is asked of the image, or of each of them; those of one size are encoded together as the task looks at them."""
        if (several := images_in(image)) is None:
            return ask(self.encode(image))
        answers: list[Answered] = []
        for i in range(0, len(several), BATCH):
            pictures = self.encode(several[i : i + BATCH])
            if task:
                self.look(pictures, task)
            answers += [ask(picture) for picture in pictures]
        return answers


def load(
    source: str | Path | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    compile: bool = False,
    allow_nonfinite: bool = False,
    answers: Sequence[str] | None = None,
    version: str | None = None,
) -> Predictor:
    """A predictor from a checkpoint: ours or a published X-Decoder or SEEM, whose architecture is told from the file.

    Args:
        source: a .pt or .safetensors file, `https://…`, `hf://owner/repository/file`, or a folder of `save_pretrained`; None:
            the network inside the package (`xdecoder.shipped`).
        dtype, compile: as for `Predictor`.
        allow_nonfinite: take weights that are infinite or not a number, which are refused otherwise.
        answers: what a published file's answer head chooses from, if not from the published 3129 answers.
        version: of a published SEEM, "v0", "v1" or "demo"; by default the file's name tells it.

    Raises:
        ValueError: in one sentence, if it is not one.
    """
    # This is the one place of the core that knows of the published room.
    from xdecoder.published.checkpoints import open_checkpoint

    source = named_or_shipped(source)
    if not isinstance(source, (str, Path)) or not str(source):
        raise ValueError(f"source must be a checkpoint's path or address, not {shown(source)}")
    try:
        device = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device must be such as 'cpu', 'cuda' or 'cuda:1', not {shown(device)} ({error})") from None
    return Predictor(open_checkpoint(source, answers, version).build(device, allow_nonfinite), dtype, compile)
