"""Images in, results out: what most users call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from xdecoder import postprocessing
from xdecoder.config import parse
from xdecoder.editing import EditConfig, Edited, Inpainter, Step, edit
from xdecoder.files import shown
from xdecoder.images import ImageLike, images_in, open_image, pixels, png, shorter_side
from xdecoder.inference import tiling
from xdecoder.inference.example import Example
from xdecoder.inference.results import (
    Answer,
    Everything,
    Found,
    Instances,
    Names,
    Panoptic,
    Ranking,
    Regions,
    Semantic,
    Several,
)
from xdecoder.inference.session import Canvas, Points, Prompted, Session
from xdecoder.model import Encoded
from xdecoder.network import Network, check_evidence, check_finite
from xdecoder.postprocessing import Evidence, PostprocessingConfig, ResizedMasks
from xdecoder.regions import EverythingConfig, Proposals
from xdecoder.resizing import ShortestEdge, ShortestSide, Stretch, resized
from xdecoder.seem.draws import SeededDraws
from xdecoder.shipped import named_or_shipped
from xdecoder.tasks import TasksConfig, captioning, interactive, names, referring, retrieval, segmentation, vqa
from xdecoder.tasks.descriptor import Descriptor
from xdecoder.texts import check_number, checked
from xdecoder.types import SegmentationResult, StrokeMaps, Vocabulary

BATCH = 8  # images that are encoded at a time, on a GPU
OPEN_VOCABULARY = TasksConfig(
    segmentation=segmentation.SegmentationConfig(postprocessing=PostprocessingConfig(object_threshold=0.4)),
)
"""How a network is asked of which it is not known how it was measured."""

Answered = TypeVar("Answered")
Shown = ShortestEdge | ShortestSide | Stretch | str  # a resizing, or the `look` of a task's descriptor
Mask = Tensor | np.ndarray
Place = Mask | Sequence[float]  # a mask, a box or a point


class Picture:
    """An image that can be asked many questions; each of its views is encoded once, when a question first needs it.

    `Predictor.encode` makes it. What a question's answer depends on beside the question (templates, thresholds, sizes) is the
    predictor's, so that it is what the network was measured with.
    """

    def __init__(self, predictor: Predictor, image: Image.Image) -> None:
        self.image = image
        self.views: dict[Shown, Any] = {}
        self._predictor = predictor

    def __repr__(self) -> str:
        return f"Picture({self.image.width} × {self.image.height}, encoded at {len(self.views)} sizes)"

    def _repr_png_(self) -> bytes:
        return png(self.image)

    def segment(self, names: Sequence[str], threshold: float = 0.0, tile: int | None = None) -> Semantic:
        """The class of each pixel.

        Args:
            names: what to tell apart.
            threshold: a pixel whose best class scores less belongs to none.
            tile: cut images that are larger into windows of so many pixels squared, each encoded by itself, and join what
                is seen in them; for images whose details would otherwise be lost. None = never.
        """
        vocabulary = _vocabulary(checked(names, "names"))
        check_number(threshold, "threshold")

        def ask(picture: Picture) -> Semantic:
            labels = picture._evidence(vocabulary).semantic((picture.image.height, picture.image.width), threshold)
            return Semantic(picture.image, vocabulary.names, labels.cpu())

        return self._in_tiles(ask, tile, tiling.join_semantic)

    def panoptic(
        self,
        things: Sequence[str],
        stuff: Sequence[str] = (),
        threshold: float | None = None,
        tile: int | None = None,
    ) -> Panoptic:
        """Things one by one, and each kind of stuff as one region.

        Args:
            things, stuff: names of what is counted, and of what is not.
            threshold: how sure the network must be of a region's class; None: as it was measured.
            tile: as for `segment`; things that reach over several windows are put together.
        """
        vocabulary = _vocabulary(things, stuff)
        config = self._predictor.tasks.segmentation.postprocessing
        if threshold is not None:
            check_number(threshold, "threshold")
            config = config.model_copy(update={"object_threshold": threshold})

        def ask(picture: Picture) -> Panoptic:
            found = picture._evidence(vocabulary)
            masks = found.resized((picture.image.height, picture.image.width))
            is_thing = found.countable(vocabulary.is_thing)
            result = postprocessing.panoptic(found.probabilities, masks, is_thing, config)
            named = postprocessing.relabelled(SegmentationResult(None, None, result), found.labels).panoptic
            assert named is not None
            return Panoptic(picture.image, vocabulary, named.ids.cpu(), named.segments)

        return self._in_tiles(ask, tile, tiling.join_panoptic)

    @torch.inference_mode()
    def instances(self, names: Sequence[str], threshold: float = 0.0) -> Instances:
        """Things one by one, the surest first; those that score less than the threshold are left out."""
        vocabulary = _vocabulary(checked(names, "names"))
        check_number(threshold, "threshold")
        found = self._evidence(vocabulary)
        masks = found.resized((self.image.height, self.image.width))
        is_thing = found.countable(vocabulary.is_thing)
        detections = self._predictor.tasks.segmentation.postprocessing.detections
        rows, labels, scores = postprocessing.instance_scores(found.probabilities, masks, is_thing, detections)
        order = scores.argsort(descending=True)
        order = order[scores[order] >= threshold]
        named = found.labels[labels[order]].cpu()
        return Instances(self.image, vocabulary.names, named, scores[order].cpu(), _to_cpu(masks[rows[order]]))

    @torch.inference_mode()
    def refer(self, phrases: Sequence[str], threshold: float | None = None) -> Regions:
        """What each phrase means, if it means anything here.

        Args:
            threshold: least cosine of a phrase and its region; what scores less is not found, and its mask is empty. None: the
                network's own, which was fitted on validation data; without one every phrase gets a region, and so it does
                for -1.
        """
        phrases = checked(phrases, "phrases")
        if threshold is None:
            threshold = self._predictor.tasks.referring.threshold
        else:
            check_number(threshold, "threshold")
        features, together = self.view(referring.DESCRIPTOR), self._predictor.tasks.referring.together
        scores, logits = referring.locate(self._predictor.able(referring.DESCRIPTOR), features, phrases, together)
        check_finite(scores[None], what="a phrase's score")
        output, first = (self.image.height, self.image.width), features.decoder.table.interpolation
        masks = ResizedMasks(logits, features.padded, features.sizes[0], output, first)
        return Regions(self.image, phrases, scores.cpu(), _to_cpu(masks), threshold)

    @torch.inference_mode()
    def refer_all(self, phrases: Sequence[str], threshold: float | None = None) -> Several:
        """All that each phrase means, one by one: several things, one or none.

        Args:
            threshold: least cosine of a phrase and a region; None: the network's own.

        Raises:
            ValueError: if the network has none and none is given.
        """
        phrases, settings = checked(phrases, "phrases"), self._predictor.tasks.referring
        if threshold is None:
            threshold = referring.threshold_of(settings)
        check_number(threshold, "threshold")
        features = self.view(referring.DESCRIPTOR)
        each = referring.locate_all(self._predictor.able(referring.DESCRIPTOR), features, phrases, threshold)
        owners = torch.tensor([number for number, (scores, _) in enumerate(each) for _ in scores], dtype=torch.int64)
        output, first = (self.image.height, self.image.width), features.decoder.table.interpolation
        logits = torch.cat([masks for _, masks in each])
        masks = _to_cpu(ResizedMasks(logits, features.padded, features.sizes[0], output, first))
        return Several(self.image, phrases, owners, torch.cat([scores for scores, _ in each]).cpu(), masks, threshold)

    @torch.inference_mode()
    def vector(self, region: Place) -> Tensor:
        """What a place means, as a unit vector (D,) in the joint space of regions and texts; of N masks (N, D).

        Args:
            region: a mask (H, W) or several (N, H, W) of the image's size, or a box (x0, y0, x1, y1) or point (x, y) in pixels.

        Raises:
            ValueError: for a place that is none of these or lies outside the image, and for a network that finds regions only
                by their names.
        """
        proposals = self._proposals()
        vectors = proposals.meaning(_weights(proposals, region, self.image)).cpu()
        return vectors if _is_batch(region) else vectors[0]

    @torch.inference_mode()
    def label(self, region: Place, names: Sequence[str]) -> Any:
        """What a place is: all the names, the likeliest first, as `Names`; of N masks a list. `region` as for `vector`.

        The names compete with each other alone: one of them is the likeliest even where none is right.
        """
        asked, model = _vocabulary(checked(names, "names")), self._predictor.able(segmentation.DESCRIPTOR)
        vectors = torch.atleast_2d(self.vector(region)).to(self._predictor.device)
        chances = model.likelihoods(vectors, asked.prompts, self._predictor.tasks.segmentation).cpu()
        found = [Names.ranked(asked.names, row) for row in chances.tolist()]
        return found if _is_batch(region) else found[0]

    def describe(self, region: Mask) -> str | list[str]:
        """A sentence about what a mask (H, W) shows, or one each about several (N, H, W)."""
        if not _is_batch(region):
            return self.caption(region)
        return self._predictor.caption([self] * len(region), list(region))

    @torch.inference_mode()
    def everything(self, names: Sequence[str] = (), config: EverythingConfig | None = None) -> Everything:
        """All regions that the network sees, the best first and none twice, whatever they are.

        Args:
            names: if given, each region gets the likeliest of them.
            config: which regions are worth showing.

        Raises:
            ValueError: for a network that finds regions only by their names.
        """
        proposals = self._proposals()
        rows, quality = proposals.best(config or EverythingConfig())
        masks = _to_cpu(proposals[rows].resized((self.image.height, self.image.width)))
        vectors = F.normalize(proposals.vectors[rows].float(), dim=-1)
        asked, labels = _vocabulary(checked(names, "names")).names if names else (), None
        if asked:
            settings = self._predictor.tasks.segmentation
            labels = self._predictor.able(segmentation.DESCRIPTOR).likelihoods(vectors, asked, settings).argmax(dim=1).cpu()
        return Everything(self.image, quality.cpu(), masks, vectors.cpu(), asked, labels)

    def _proposals(self) -> Proposals:
        model, task = self._predictor.able(segmentation.DESCRIPTOR), segmentation.DESCRIPTOR
        found: Proposals = model.proposals(self.view(task))
        return found

    def interact(self, phrase: str | None = None) -> Session:
        """Begin to mark objects on the image.

        Args:
            phrase: what the objects are, for a network in which phrases and strokes hear each other (SEEM's version "demo").

        Raises:
            ValueError: for a network that reads no strokes, or that hears no phrase beside them.
        """
        model = self._predictor.able(interactive.DESCRIPTOR)
        encoder, features, words = interactive.strokes_of(model), self.view(interactive.DESCRIPTOR), None
        if phrase is not None:
            if not encoder.hears(model.decoder):
                raise ValueError('in this network a phrase changes nothing about strokes; load a SEEM with version="demo"')
            words = referring.word_tokens(model.language.encode([phrase]), [[0]])

        @torch.inference_mode()
        def segment(strokes: StrokeMaps, before: Tensor | None) -> Tensor:
            device = features.mask.device
            previous = None if before is None else [before.to(device, features.mask.dtype)]
            logits = encoder.segment(features, [strokes.to(device)], previous, SeededDraws(), words)[0]
            check_finite(logits[None], what="the mask of what is marked")
            return logits

        return Session(Canvas(self.image, features.sizes[0], features.padded, segment))

    def prompt(
        self,
        points: Points = (),
        labels: Sequence[int] = (),
        box: Sequence[float] | None = None,
        mask: Tensor | None = None,
    ) -> Prompted:
        """One object, as SAM's users ask for it.

        Args:
            points: (x, y) in pixels of the image.
            labels: of each point 1 = of the object, 0 = not of it; () = all 1.
            box: x0, y0, x1, y1 around it.
            mask: logits of an earlier answer, to go on from.

        Returns:
            masks (1, H, W) bool, scores (1,), and logits (1, h, w) that can be given back.

        Raises:
            ValueError: if there is neither a box nor a point on the object, and as `Session` does.
        """
        session = self.interact()
        if mask is not None:
            session.recall(mask)
        if box is not None:
            session.box(*box)
        if len(points):
            session.clicks(points, labels or [1] * len(points))
        elif box is None:
            raise ValueError("prompt needs a point on the object or a box around it")
        return Prompted(session.masks, session.scores, session.logits)

    def caption(self, region: Mask | None = None, **generation: Any) -> str:
        """Describe the image, or the part of it where `region` (H, W) is true, in a sentence.

        Args:
            region: at the image's size.
            generation: fields of `xdecoder.decoder.generation.GenerationConfig`: max_length, beams, length_penalty,
                no_repeat_ngram_size.
        """
        return self._predictor.caption([self], [region], **generation)[0]

    @torch.inference_mode()
    def match(self, texts: Sequence[str]) -> Tensor:
        """Similarity of the image and each text, (T,) in -1…1."""
        texts = checked(texts, "texts")
        vectors = F.normalize(self._predictor.able(retrieval.DESCRIPTOR).language.encode(texts).vectors.float(), dim=-1)
        images = retrieval.image_vectors(self.view(retrieval.DESCRIPTOR), self._predictor.tasks.retrieval.backbone_view)[0]
        cosines = (vectors @ images.T).mean(dim=1).cpu()
        check_finite(cosines[None], what="a cosine")
        return cosines

    @torch.inference_mode()
    def answer(self, question: str) -> Answer:
        """The likeliest of the answers that the network was taught; raises ValueError if it was taught none."""
        model = self._predictor.able(vqa.DESCRIPTOR)
        vqa.head_of(model)
        texts = model.language.encode(checked([question], "question"))
        (best,) = vqa.answer(model, self.view(vqa.DESCRIPTOR), texts)
        return Answer(*best)

    def edit(
        self, instruction: str | Sequence[Step], inpainter: Inpainter | None = None, config: EditConfig | None = None
    ) -> Edited:
        """Change the image as an instruction says, such as "remove the left cup"; see `xdecoder.editing.edit`."""
        return edit(self, instruction, inpainter, config)

    def with_image(self, image: Image.Image) -> Picture:
        """Another image, to be asked of the same network in the same way."""
        return Picture(self._predictor, image)

    def view(self, task: Descriptor) -> Any:
        """The image, encoded, as the network looks at it when a task is asked."""
        self._predictor.look([self], task)
        return self.views[self._predictor.shown(task)]

    def _evidence(self, vocabulary: Vocabulary) -> Evidence:
        """What the network knows of the classes."""
        model, settings = self._predictor.able(segmentation.DESCRIPTOR), self._predictor.tasks.segmentation
        found: Evidence = model.evidence(self.view(segmentation.DESCRIPTOR), vocabulary.prompts, settings)
        check_evidence(found)
        return found

    @torch.inference_mode()
    def _in_tiles(
        self,
        ask: Callable[[Picture], Answered],
        tile: int | None,
        join: Callable[[Image.Image, list[tuple[tiling.Window, Answered]]], Answered],
    ) -> Answered:
        """The answer for the whole image, or joined of those for its windows."""
        if tile is not None:
            check_number(tile, "tile", whole=True)
        windows = tiling.windows(self.image.size, tile) if tile else []
        if len(windows) < 2:
            return ask(self)
        seen = [(window, ask(Picture(self._predictor, self.image.crop(window.box)))) for window in windows]
        return join(self.image, seen)


One = ImageLike | Picture
Many = list[Any] | tuple[Any, ...]  # of the former


class Predictor:
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
        self.model = model
        asked, fitted = model.protocol.tasks, model.protocol.fitted
        measured = {name: {**asked.get(name, {}), **fitted.get(name, {})} for name in names() if name in {*asked, *fitted}}
        measured = OPEN_VOCABULARY.model_dump(exclude_unset=True) | measured
        self.tasks = tasks or parse(TasksConfig, measured, "the network's protocol")
        model.for_inference(dtype, compile)

    def __repr__(self) -> str:
        weights = sum(parameter.numel() for parameter in self.model.parameters()) / 1e6
        asked = f"templates={self.tasks.segmentation.templates!r}, image_size={getattr(self.model.config, 'image_size', None)}"
        known = " ".join(filter(None, (self.model.protocol.knowledge, self.limits and f"[{self.limits}]")))
        about = ", ".join(filter(None, (f"{weights:.1f} million weights", str(self.device), asked, known)))
        return f"{type(self).__name__}({self.model.config.name}, {about})"

    @property
    def limits(self) -> str:
        """What the network cannot know, in a sentence for whoever asks it; empty where nothing is known of it."""
        return self.model.protocol.limits

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.model.device

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
    def instances(self, image: One, names: Sequence[str], threshold: float = 0.0) -> Instances: ...
    @overload
    def instances(self, image: Many, names: Sequence[str], threshold: float = 0.0) -> list[Instances]: ...
    def instances(self, image: Any, names: Sequence[str], threshold: float = 0.0) -> Any:
        """As `Picture.instances`, of an image or of each of a list."""
        return self._each(image, lambda picture: picture.instances(names, threshold), segmentation.DESCRIPTOR)

    @overload
    def refer(self, image: One, phrases: Sequence[str], threshold: float | None = None) -> Regions: ...
    @overload
    def refer(self, image: Many, phrases: Sequence[str], threshold: float | None = None) -> list[Regions]: ...
    def refer(self, image: Any, phrases: Sequence[str], threshold: float | None = None) -> Any:
        """As `Picture.refer`, of an image or of each of a list."""
        return self._each(image, lambda picture: picture.refer(phrases, threshold), referring.DESCRIPTOR)

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
    @torch.inference_mode()
    def caption(self, image: Any, region: Any = None, **generation: Any) -> Any:
        """As `Picture.caption`; for a list of images `region` is a list, in which None stands for all of an image."""
        if (several := images_in(image)) is None:
            return self.caption([image], [region], **generation)[0]
        model, config = self.able(captioning.DESCRIPTOR), self.tasks.captioning.generation(**generation)
        regions = [None] * len(several) if region is None else list(region)
        if len(regions) != len(several):
            raise ValueError(f"{len(several)} pictures need as many regions, not {len(regions)}")
        sentences = []
        for i in range(0, len(several), BATCH):
            pictures = self.encode(several[i : i + BATCH])
            masks = [_region(mask, picture.image) for mask, picture in zip(regions[i : i + BATCH], pictures, strict=True)]
            self.look(pictures, captioning.DESCRIPTOR)
            views = [picture.view(captioning.DESCRIPTOR) for picture in pictures]
            features = views[0] if len(views) == 1 else Encoded.stack(views)
            sentences += captioning.captions(model, features, config, _stacked(masks, features))
        return sentences

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
        encoder, shown = interactive.strokes_of(self.able(interactive.DESCRIPTOR)), self.encode(reference)
        marked = _region(mask, shown.image)
        if marked is None:
            raise ValueError("the mask of what is to be found is missing")
        example = Example.of(encoder, shown.view(interactive.DESCRIPTOR), marked[None])

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

    @torch.inference_mode()
    def look(self, pictures: Iterable[Picture], task: Descriptor) -> None:
        """Encode pictures that have not been looked at as the task does; those of one size together."""
        how = self.shown(task)
        waiting: dict[tuple[int, ...], list[tuple[Picture, Tensor]]] = {}
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

    def shown(self, task: Descriptor) -> Shown:
        """How images are shown to the network for a task: as they were when it was measured."""
        return self.model.protocol.images.get(task.name) or task.look

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

    def able(self, task: Descriptor) -> Any:
        """The network, of which the task may be asked; raises ValueError, in one sentence, if it may not."""
        self.model.require(task.name)
        return self.model


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


def _vocabulary(things: Sequence[str], stuff: Sequence[str] = ()) -> Vocabulary:
    countable, others = checked(things, "things", least=0), checked(stuff, "stuff", least=0)
    if not countable + others:
        raise ValueError("at least one class name is needed")
    return Vocabulary(countable + others, (True,) * len(countable) + (False,) * len(others))


def _is_batch(region: Any) -> bool:
    return isinstance(region, (Tensor, np.ndarray)) and region.ndim == 3


def _weights(proposals: Proposals, region: Place, image: Image.Image) -> Tensor:
    """How much each proposal says about a place, (1, N), or about each of M masks (M, N)."""
    if isinstance(region, (Tensor, np.ndarray)) and region.ndim >= 2:
        masks = [_pixels(mask, image) for mask in (region if _is_batch(region) else [region])]
        if not masks:
            raise ValueError("a batch of masks must hold a mask")
        return proposals.weights(torch.stack(masks))
    try:
        numbers = [float(number) for number in region]
    except (TypeError, ValueError):
        numbers = []
    width, height = image.size
    if len(numbers) == 4 and 0 <= numbers[0] < numbers[2] <= width and 0 <= numbers[1] < numbers[3] <= height:
        x0, y0, x1, y1 = numbers
        return proposals.weights_of_box((x0 / width, y0 / height, x1 / width, y1 / height))
    if len(numbers) == 2 and 0 <= numbers[0] < width and 0 <= numbers[1] < height:
        return proposals.weights_of_point(numbers[0] / width, numbers[1] / height)
    raise ValueError(
        f"a place is a mask of the image's size, a box (x0, y0, x1, y1) or a point (x, y) inside of its {width} × {height} "
        f"pixels, not {shown(region)}"
    )


def _region(mask: Mask | None, image: Image.Image) -> Tensor | None:
    return None if mask is None else _pixels(mask, image)


def _pixels(mask: Mask, image: Image.Image) -> Tensor:
    """Those that a mask marks, (H, W) bool; raises ValueError for one of another size or that marks none."""
    if not isinstance(mask, (Tensor, np.ndarray)) or (isinstance(mask, np.ndarray) and mask.dtype.kind not in "biuf"):
        raise ValueError(f"region must be an array or tensor of the picture's size, not {shown(mask)}")
    region = torch.as_tensor(mask).cpu()
    if region.shape != (image.height, image.width):
        raise ValueError(f"a region has the picture's size {(image.height, image.width)}, not {tuple(region.shape)}")
    if not (region > 0).any():
        raise ValueError("a region must hold a pixel of the picture, but this one marks none")
    return region > 0


def _stacked(regions: Sequence[Tensor | None], features: Encoded) -> Tensor | None:
    """Regions (H, W) of images at their own sizes as (B, H, W) over the padded input; None if there are none."""
    if all(region is None for region in regions):
        return None
    whole = torch.ones(1, 1, dtype=torch.bool)
    shown = [whole if region is None else region for region in regions]
    resized = [F.interpolate(region[None, None].float(), size=features.padded, mode="nearest")[0, 0] > 0 for region in shown]
    return torch.stack(resized).to(features.mask.device)


def _to_cpu(masks: ResizedMasks) -> ResizedMasks:
    return replace(masks, logits=masks.logits.float().cpu())
