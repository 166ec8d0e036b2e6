"""One image, and all that can be asked about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from xdecoder import postprocessing
from xdecoder.defaults import LEAST_SCORE
from xdecoder.editing import EditConfig, Edited, Inpainter, Step, edit
from xdecoder.images import png
from xdecoder.inference import places, tiling
from xdecoder.inference.places import Mask, Place
from xdecoder.inference.results import (
    Answer,
    Everything,
    Instances,
    Names,
    Panoptic,
    Regions,
    Semantic,
    Several,
)
from xdecoder.inference.session import Canvas, Points, Prompted, Session
from xdecoder.inference.viewing import BATCH, Viewed, Viewer
from xdecoder.model import Encoded
from xdecoder.network import check_evidence, check_finite
from xdecoder.postprocessing import Evidence, ResizedMasks
from xdecoder.regions import EverythingConfig, Proposals
from xdecoder.seem.draws import SeededDraws
from xdecoder.tasks import captioning, interactive, referring, retrieval, segmentation, vqa
from xdecoder.tasks.descriptor import Descriptor
from xdecoder.texts import check_number, checked
from xdecoder.types import SegmentationResult, StrokeMaps, Vocabulary

Answered = TypeVar("Answered")


class Picture(Viewed):
    """An image that can be asked many questions; each of its views is encoded once, when a question first needs it.

    `Predictor.encode` makes it. What a question's answer depends on beside the question (templates, thresholds, sizes) is the
    predictor's, so that it is what the network was measured with.
    """

    def __init__(self, viewer: Viewer, image: Image.Image) -> None:
        super().__init__(image)
        self._viewer = viewer

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
        config = self._viewer.tasks.segmentation.postprocessing
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
    def instances(self, names: Sequence[str], threshold: float = LEAST_SCORE) -> Instances:
        """Things one by one, the surest first; those that score less than the threshold are left out."""
        vocabulary = _vocabulary(checked(names, "names"))
        check_number(threshold, "threshold")
        found = self._evidence(vocabulary)
        masks = found.resized((self.image.height, self.image.width))
        is_thing = found.countable(vocabulary.is_thing)
        detections = self._viewer.tasks.segmentation.postprocessing.detections
        rows, labels, scores = postprocessing.instance_scores(found.probabilities, masks, is_thing, detections)
        order = scores.argsort(descending=True)
        order = order[scores[order] >= threshold]
        named = found.labels[labels[order]].cpu()
        return Instances(self.image, vocabulary.names, named, scores[order].cpu(), _to_cpu(masks[rows[order]]))

    @torch.inference_mode()
    def refer(self, phrases: Sequence[str], threshold: float | None = None, together: bool | None = None) -> Regions:
        """What each phrase means, if it means anything here.

        Args:
            threshold: least cosine of a phrase and its region; what scores less is not found, and its mask is empty. None: the
                network's own, which was fitted on validation data; without one every phrase gets a region, and so it does
                for -1.
            together: read all phrases in one pass, in which they see each other (published): sixteen take a sixth of the
                decoder's time, but find something else than alone, and score otherwise than a threshold was fitted to. None:
                as the network's tasks say.
        """
        phrases = checked(phrases, "phrases")
        if threshold is None:
            threshold = self._viewer.tasks.referring.threshold
        else:
            check_number(threshold, "threshold")
        features, own = self.view(referring.DESCRIPTOR), self._viewer.tasks.referring.together
        together = own if together is None else together
        scores, logits = referring.locate(self._viewer.able(referring.DESCRIPTOR), features, phrases, together)
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
        phrases, settings = checked(phrases, "phrases"), self._viewer.tasks.referring
        if threshold is None:
            threshold = referring.threshold_of(settings)
        check_number(threshold, "threshold")
        features = self.view(referring.DESCRIPTOR)
        each = referring.locate_all(self._viewer.able(referring.DESCRIPTOR), features, phrases, threshold)
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
        vectors = proposals.meaning(places.weights(proposals, region, self.image)).cpu()
        return vectors if places.is_batch(region) else vectors[0]

    @torch.inference_mode()
    def label(self, region: Place, names: Sequence[str]) -> Names | list[Names]:
        """What a place is: all the names, the likeliest first; of N masks (N, H, W) a list. `region` as for `vector`.

        The names compete with each other alone: one of them is the likeliest even where none is right.
        """
        asked = _vocabulary(checked(names, "names"))
        chances = self._likelihoods(torch.atleast_2d(self.vector(region)), asked)
        found = [Names.ranked(asked.names, row) for row in chances.tolist()]
        return found if places.is_batch(region) else found[0]

    def describe(self, region: Mask) -> str | list[str]:
        """A sentence about what a mask (H, W) shows, or one each about several (N, H, W)."""
        if not places.is_batch(region):
            return self.caption(region)
        return captions(self._viewer, ((self, mask) for mask in region))

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
        asked = _vocabulary(checked(names, "names")) if names else None
        labels = self._likelihoods(vectors, asked).argmax(dim=1) if asked else None
        return Everything(self.image, quality.cpu(), masks, vectors.cpu(), asked.names if asked else (), labels)

    def interact(self, phrase: str | None = None) -> Session:
        """Begin to mark objects on the image.

        Args:
            phrase: what the objects are, for a network in which phrases and strokes hear each other (SEEM's version "demo").

        Raises:
            ValueError: for a network that reads no strokes, or that hears no phrase beside them.
        """
        model = self._viewer.able(interactive.DESCRIPTOR)
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
        return captions(self._viewer, [(self, region)], **generation)[0]

    @torch.inference_mode()
    def match(self, texts: Sequence[str]) -> Tensor:
        """Similarity of the image and each text, (T,) in -1…1."""
        texts = checked(texts, "texts")
        vectors = F.normalize(self._viewer.able(retrieval.DESCRIPTOR).language.encode(texts).vectors.float(), dim=-1)
        images = retrieval.image_vectors(self.view(retrieval.DESCRIPTOR), self._viewer.tasks.retrieval.backbone_view)[0]
        cosines = (vectors @ images.T).mean(dim=1).cpu()
        check_finite(cosines[None], what="a cosine")
        return cosines

    @torch.inference_mode()
    def answer(self, question: str) -> Answer:
        """The likeliest of the answers that the network was taught; raises ValueError if it was taught none."""
        model = self._viewer.able(vqa.DESCRIPTOR)
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
        return Picture(self._viewer, image)

    def view(self, task: Descriptor) -> Any:
        """The image, encoded, as the network looks at it when a task is asked."""
        self._viewer.look([self], task)
        return self.views[self._viewer.shown(task)]

    def _proposals(self) -> Proposals:
        """What the network sees before anybody has named it."""
        found: Proposals = self._viewer.able(segmentation.DESCRIPTOR).proposals(self.view(segmentation.DESCRIPTOR))
        for what, values in (("a region's vector", found.vectors), ("a mask", found.masks)):
            check_finite(values[None], what=what)
        return found

    def _likelihoods(self, vectors: Tensor, vocabulary: Vocabulary) -> Tensor:
        """How likely it is (N, K) that regions of these vectors (N, D) are each of the classes."""
        model, settings = self._viewer.able(segmentation.DESCRIPTOR), self._viewer.tasks.segmentation
        chances: Tensor = model.likelihoods(vectors.to(self._viewer.device), vocabulary.prompts, settings)
        check_finite(chances[None], what="a name's score")
        return chances.cpu()

    def _evidence(self, vocabulary: Vocabulary) -> Evidence:
        """What the network knows of the classes."""
        model, settings = self._viewer.able(segmentation.DESCRIPTOR), self._viewer.tasks.segmentation
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
        seen = [(window, ask(Picture(self._viewer, self.image.crop(window.box)))) for window in windows]
        return join(self.image, seen)


@torch.inference_mode()
def captions(viewer: Viewer, asked: Iterable[tuple[Picture, Mask | None]], **generation: Any) -> list[str]:
    """A sentence about each picture, or about the part of it that a mask (H, W) marks; `generation` as for `Picture.caption`.

    Some are described together, and no more are taken from `asked` than those.
    """
    model, config = viewer.able(captioning.DESCRIPTOR), viewer.tasks.captioning.generation(**generation)
    waiting, sentences = iter(asked), list[str]()
    while some := list(islice(waiting, BATCH)):
        masks = [None if mask is None else places.marked(mask, picture.image) for picture, mask in some]
        viewer.look([picture for picture, _ in some], captioning.DESCRIPTOR)
        views = [picture.view(captioning.DESCRIPTOR) for picture, _ in some]
        features = views[0] if len(views) == 1 else Encoded.stack(views)
        sentences += captioning.captions(model, features, config, _stacked(masks, features))
    return sentences


def _vocabulary(things: Sequence[str], stuff: Sequence[str] = ()) -> Vocabulary:
    countable, others = checked(things, "things", least=0), checked(stuff, "stuff", least=0)
    if not countable + others:
        raise ValueError("at least one class name is needed")
    return Vocabulary(countable + others, (True,) * len(countable) + (False,) * len(others))


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
