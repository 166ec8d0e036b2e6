"""Pictures in, results out: what most users call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from xdecoder import postprocessing
from xdecoder.decoder.attention import everywhere
from xdecoder.decoder.cache import Decoded, KeyValueCache, decode_group, latent_outputs, latents
from xdecoder.decoder.generation import GenerationConfig, generate
from xdecoder.decoder.heads import QueryOutputs
from xdecoder.images import ImageLike, open_image, pixels, shorter_side
from xdecoder.inference import tiling
from xdecoder.inference.results import Answer, Found, Instances, Panoptic, Ranking, Regions, Semantic
from xdecoder.language.encoder import Texts
from xdecoder.losses.contrastive import cosine_logits
from xdecoder.model import Features, XDecoder
from xdecoder.ops.winograd import use_winograd
from xdecoder.postprocessing import PostprocessingConfig, ResizedMasks
from xdecoder.tasks import vqa
from xdecoder.tasks.captioning import sentence
from xdecoder.tasks.referring import word_tokens
from xdecoder.tasks.segmentation import BACKGROUND
from xdecoder.types import Vocabulary

BATCH = 8  # pictures encoded, and phrases decoded, at a time

Answered = TypeVar("Answered")


@dataclass(frozen=True)
class View:
    """A picture at one size, encoded; what several questions need is computed when the first asks for it."""

    model: XDecoder
    features: Features  # of this picture alone

    @cached_property
    def memory(self) -> KeyValueCache:
        return KeyValueCache(self.model, self.features)

    @cached_property
    def latents(self) -> Decoded:
        return latents(self.model, self.memory)

    @cached_property
    def rows(self) -> QueryOutputs:
        return latent_outputs(self.model.decoder, self.latents)


class Picture:
    """A picture that can be asked many questions; each of its views is encoded once, when a question first needs it."""

    def __init__(self, predictor: Predictor, image: Image.Image) -> None:
        self.image = image
        self.views: dict[str, View] = {}
        self._predictor = predictor

    def segment(self, names: Sequence[str], threshold: float = 0.0) -> Semantic:
        """As `Predictor.segment`; so are the others."""
        return self._predictor.segment(self, names, threshold)

    def panoptic(self, things: Sequence[str], stuff: Sequence[str] = (), threshold: float = 0.4) -> Panoptic:
        return self._predictor.panoptic(self, things, stuff, threshold)

    def instances(self, names: Sequence[str], threshold: float = 0.0) -> Instances:
        return self._predictor.instances(self, names, threshold)

    def refer(self, phrases: Sequence[str]) -> Regions:
        return self._predictor.refer(self, phrases)

    def caption(self, region: Mask | None = None, **generation: Any) -> str:
        return self._predictor.caption(self, region, **generation)

    def match(self, texts: Sequence[str]) -> Tensor:
        return self._predictor.match(self, texts)

    def answer(self, question: str) -> Answer:
        return self._predictor.answer(self, question)


One = ImageLike | Picture
Many = list[Any] | tuple[Any, ...]  # of the former
Mask = Tensor | np.ndarray


class Predictor:
    """Asks a trained network about pictures.

    A picture is a path or open file, a PIL image, an (H, W, 3) uint8 array, a (3, H, W) uint8 tensor, or what `encode` gave.
    A list of pictures gets a list of answers; pictures of one size are encoded together.

    Args:
        model: the network; it is put into evaluation mode, and changed by the other two arguments.
        dtype: of the weights that read pictures, for example torch.bfloat16; texts are read in full precision.
        compile: let torch.compile make the encoder faster, for any size of picture; the first picture then takes its time.
    """

    def __init__(self, model: XDecoder, dtype: torch.dtype = torch.float32, compile: bool = False) -> None:
        self.model = model.eval()
        model.read_images_as(dtype)
        if model.device.type == "cpu" and not compile:
            use_winograd(model.pixel_decoder)
        if compile:
            model.backbone.compile(dynamic=True)
            model.pixel_decoder.compile(dynamic=True)

    @overload
    def encode(self, image: One) -> Picture: ...
    @overload
    def encode(self, image: Many) -> list[Picture]: ...
    def encode(self, image: Any) -> Any:
        """A picture that remembers what was computed of it, for many questions about it."""
        if isinstance(image, (list, tuple)):
            return [self.encode(each) for each in image]
        return image if isinstance(image, Picture) else Picture(self, open_image(image))

    @overload
    def segment(self, image: One, names: Sequence[str], threshold: float = 0.0, tile: int | None = None) -> Semantic: ...
    @overload
    def segment(self, image: Many, names: Sequence[str], threshold: float = 0.0, tile: int | None = None) -> list[Semantic]: ...
    def segment(self, image: Any, names: Sequence[str], threshold: float = 0.0, tile: int | None = None) -> Any:
        """The class of each pixel.

        Args:
            names: what to tell apart.
            threshold: a pixel whose best class scores less belongs to none.
            tile: cut pictures that are larger into windows of so many pixels squared, each encoded by itself, and join what
                is seen in them; for pictures whose details would otherwise be lost. None = never.
        """
        vocabulary = _vocabulary(names)

        def ask(picture: Picture) -> Semantic:
            probabilities, masks = self._classify(picture, vocabulary)
            labels = postprocessing.semantic_map(probabilities, masks, threshold).cpu()
            return Semantic(picture.image, vocabulary.names, labels)

        return self._each(image, ask, tile, tiling.join_semantic)

    @overload
    def panoptic(
        self, image: One, things: Sequence[str], stuff: Sequence[str] = (), threshold: float = 0.4, tile: int | None = None
    ) -> Panoptic: ...
    @overload
    def panoptic(
        self,
        image: Many,
        things: Sequence[str],
        stuff: Sequence[str] = (),
        threshold: float = 0.4,
        tile: int | None = None,
    ) -> list[Panoptic]: ...
    def panoptic(
        self, image: Any, things: Sequence[str], stuff: Sequence[str] = (), threshold: float = 0.4, tile: int | None = None
    ) -> Any:
        """Things one by one, and each kind of stuff as one region.

        Args:
            things, stuff: names of what is counted, and of what is not.
            threshold: how sure the network must be of a region's class.
            tile: as for `segment`; things that reach over several windows are put together.
        """
        vocabulary = _vocabulary(things, stuff)
        is_thing = torch.tensor(vocabulary.is_thing, device=self.model.device)
        config = PostprocessingConfig(object_threshold=threshold)

        def ask(picture: Picture) -> Panoptic:
            probabilities, masks = self._classify(picture, vocabulary)
            result = postprocessing.panoptic(probabilities, masks, is_thing, config)
            return Panoptic(picture.image, vocabulary, result.ids.cpu(), result.segments)

        return self._each(image, ask, tile, tiling.join_panoptic)

    @overload
    def instances(self, image: One, names: Sequence[str], threshold: float = 0.0) -> Instances: ...
    @overload
    def instances(self, image: Many, names: Sequence[str], threshold: float = 0.0) -> list[Instances]: ...
    def instances(self, image: Any, names: Sequence[str], threshold: float = 0.0) -> Any:
        """Things one by one, the surest first, at most 100; those that score less than the threshold are left out."""
        vocabulary = _vocabulary(names)
        is_thing = torch.tensor(vocabulary.is_thing, device=self.model.device)

        def ask(picture: Picture) -> Instances:
            probabilities, masks = self._classify(picture, vocabulary)
            rows, labels, scores = postprocessing.instance_scores(probabilities, masks, is_thing)
            order = scores.argsort(descending=True)
            order = order[scores[order] >= threshold]
            small = _to_cpu(masks[rows[order]])
            return Instances(picture.image, vocabulary.names, labels[order].cpu(), scores[order].cpu(), small)

        return self._each(image, ask)

    @overload
    def refer(self, image: One, phrases: Sequence[str]) -> Regions: ...
    @overload
    def refer(self, image: Many, phrases: Sequence[str]) -> list[Regions]: ...
    @torch.inference_mode()
    def refer(self, image: Any, phrases: Sequence[str]) -> Any:
        """What each phrase means; each is read as if asked alone."""
        if isinstance(phrases, str) or not phrases:
            raise ValueError("refer needs a list of phrases, at least one")
        texts = self.model.language.encode(phrases)

        def ask(picture: Picture) -> Regions:
            view = self._scene(picture)
            parts = [self._locate(view, texts, range(i, min(i + BATCH, len(phrases)))) for i in range(0, len(phrases), BATCH)]
            scores, small = (torch.cat(values) for values in zip(*parts, strict=True))
            return Regions(picture.image, tuple(phrases), scores.cpu(), _to_cpu(self._masks(picture, view, small)))

        return self._each(image, ask)

    @overload
    def caption(self, image: One, region: Mask | None = None, **generation: Any) -> str: ...
    @overload
    def caption(self, image: Many, region: Sequence[Mask | None] | None = None, **generation: Any) -> list[str]: ...
    @torch.inference_mode()
    def caption(self, image: Any, region: Any = None, **generation: Any) -> Any:
        """Describe the picture, or the part of it where `region` (H, W) is true, in a sentence.

        Args:
            region: at the picture's size; for a list of pictures a list, in which None stands for all of a picture.
            generation: fields of `xdecoder.decoder.generation.GenerationConfig`: max_length, beams, length_penalty,
                no_repeat_ngram_size.
        """
        if not isinstance(image, (list, tuple)):
            return self.caption([image], [region], **generation)[0]
        config = GenerationConfig(**generation)
        regions = [None] * len(image) if region is None else list(region)
        if len(regions) != len(image):
            raise ValueError(f"{len(image)} pictures need as many regions, not {len(regions)}")
        sentences = []
        for i in range(0, len(image), BATCH):
            pictures = self.encode(image[i : i + BATCH])
            masks = [_region(mask, picture.image) for mask, picture in zip(regions[i : i + BATCH], pictures, strict=True)]
            self._look(pictures, "square")
            sentences += self._write([picture.views["square"] for picture in pictures], masks, config)
        return sentences

    @overload
    def match(self, image: One, texts: Sequence[str]) -> Tensor: ...
    @overload
    def match(self, image: Many, texts: Sequence[str]) -> list[Tensor]: ...
    @torch.inference_mode()
    def match(self, image: Any, texts: Sequence[str]) -> Any:
        """Similarity of the picture and each text, (T,) in -1…1."""
        if isinstance(texts, str) or not texts:
            raise ValueError("match needs a list of texts, at least one")
        vectors = F.normalize(self.model.language.encode(texts).vectors, dim=-1)
        return self._each(image, lambda picture: self._similarity(picture, vectors), view="square")

    def retrieve(self, images: Sequence[One], text: str) -> Ranking:
        """Pictures by how well they fit a text."""
        if not images:
            raise ValueError("retrieve needs at least one picture")
        scores = [similar.item() for similar in self.match(list(images), [text])]
        return Ranking(tuple(sorted(range(len(scores)), key=lambda i: -scores[i])), tuple(scores))

    def find(self, images: Sequence[One], text: str) -> Found:
        """The picture that fits a text best, and in it the region that the text means."""
        ranking = self.retrieve(images, text)
        best = ranking.order[0]
        return Found(best, self.refer(images[best], [text]), ranking)

    @overload
    def answer(self, image: One, question: str) -> Answer: ...
    @overload
    def answer(self, image: Many, question: str) -> list[Answer]: ...
    @torch.inference_mode()
    def answer(self, image: Any, question: str) -> Any:
        """The likeliest of the answers that the network was taught; raises ValueError if it was taught none."""
        vqa.head_of(self.model)
        text = self.model.language.encode([question])

        def ask(picture: Picture) -> Answer:
            self._look([picture], "question")
            view = picture.views["question"]
            (best,) = vqa.answer(self.model, view.memory, view.latents, text)
            return Answer(*best)

        return self._each(image, ask, view="question")

    @torch.inference_mode()
    def _each(
        self,
        image: Any,
        ask: Callable[[Picture], Answered],
        tile: int | None = None,
        join: Callable[[Image.Image, list[tuple[tiling.Window, Any]]], Any] | None = None,
        view: str = "scene",
    ) -> Answered | list[Answered]:
        """What is asked of the picture, or of each of them."""
        if not isinstance(image, (list, tuple)):
            picture = self.encode(image)
            windows = tiling.windows(picture.image.size, tile) if tile else []
            if join is None or len(windows) < 2:
                return ask(picture)
            seen = [(window, ask(Picture(self, picture.image.crop(window.box)))) for window in windows]
            return join(picture.image, seen)
        answers: list[Any] = []
        for i in range(0, len(image), BATCH):
            pictures = self.encode(image[i : i + BATCH])
            if tile is None:
                self._look(pictures, view)
            answers += [self._each(picture, ask, tile, join, view) for picture in pictures]
        return answers

    def _look(self, pictures: Iterable[Picture], kind: str) -> None:
        """Encode pictures that have no view of this kind yet; those of one size together."""
        waiting: dict[tuple[int, ...], list[tuple[Picture, Tensor]]] = {}
        for picture in pictures:
            if kind not in picture.views:
                shown = pixels(self._show(picture.image, kind))
                waiting.setdefault(tuple(shown.shape), []).append((picture, shown))
        for group in waiting.values():
            features = self.model.encode([shown for _, shown in group])
            for b, (picture, _) in enumerate(group):
                picture.views[kind] = View(self.model, features.of(b))

    def _show(self, picture: Image.Image, kind: str) -> Image.Image:
        """The picture as the network is used to see it when segmenting, captioning or answering."""
        config = self.model.config
        if kind == "scene":
            return shorter_side(picture, config.image_size)
        if kind == "question":
            side = vqa.head_of(self.model).config.image_size
            return picture.resize((side, side), Image.Resampling.BICUBIC)
        return picture.resize((config.caption_image_size, config.caption_image_size), Image.Resampling.BILINEAR)

    def _scene(self, picture: Picture) -> View:
        self._look([picture], "scene")
        return picture.views["scene"]

    def _masks(self, picture: Picture, view: View, logits: Tensor) -> ResizedMasks:
        features = view.features
        return ResizedMasks(logits, features.padded, features.sizes[0], (picture.image.height, picture.image.width))

    def _classify(self, picture: Picture, vocabulary: Vocabulary) -> tuple[Tensor, ResizedMasks]:
        """Class probabilities (Q, K + 1) and masks of all queries."""
        classes = self.model.language.vocabulary((*vocabulary.names, BACKGROUND))
        view = self._scene(picture)
        logits = cosine_logits(view.rows.semantic[0].float(), classes, self.model.language.logit_scale, clamp=False)
        return logits.softmax(-1), self._masks(picture, view, view.rows.masks(view.features.mask)[0])

    def _locate(self, view: View, texts: Texts, numbers: range) -> tuple[Tensor, Tensor]:
        """Cosine (P,) and mask logits (P, h, w) of the query that is nearest to each phrase."""
        decoder = self.model.decoder
        words = word_tokens(texts, [[i] for i in numbers])
        decoded = decode_group(decoder, view.memory, [decoder.grounding_queries(len(numbers)), words])
        rows = decoder.heads.rows(decoder.heads.normed(decoded.content)["grounding"])
        vectors = F.normalize(texts.vectors[list(numbers)], dim=-1)
        cosines = torch.einsum("pnd,pd->pn", F.normalize(rows.semantic.float(), dim=-1), vectors)
        score, query = cosines.max(dim=1)
        chosen = rows.mask[torch.arange(len(query), device=query.device), query]
        return score, torch.einsum("pc,chw->phw", chosen, view.features.mask[0])

    def _write(self, views: Sequence[View], regions: Sequence[Tensor | None], config: GenerationConfig) -> list[str]:
        if len(views) == 1:
            memory, decoded = views[0].memory, views[0].latents
        else:
            memory = KeyValueCache(self.model, Features.stack([view.features for view in views]))
            decoded = latents(self.model, memory)
        region = None
        if any(mask is not None for mask in regions):
            size = memory.features.padded
            whole = torch.ones(1, 1, 1, 1, dtype=torch.bool)
            shown = [everywhere(1, size, whole if mask is None else mask[None, None]).view(size) for mask in regions]
            region = torch.stack(shown).to(self.model.device)
        return [sentence(self.model, row) for row in generate(self.model, memory, decoded, config, region)]

    def _similarity(self, picture: Picture, texts: Tensor) -> Tensor:
        self._look([picture], "square")
        view = picture.views["square"]
        image = torch.stack((view.rows.semantic[0, -1], view.features.pooled[0])).float()
        return (texts @ F.normalize(image, dim=-1).T).mean(dim=1).cpu()


def load(
    source: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    compile: bool = False,
) -> Predictor:
    """A predictor from a checkpoint: ours or a published X-Decoder, whose architecture is told from what is in the file.

    Args:
        source: a .pt or .safetensors file, `https://…`, `hf://owner/repository/file`, or a folder of `save_pretrained`.
        dtype, compile: as for `Predictor`.

    Raises:
        ValueError: in one sentence, if it is not one.
    """
    # This is the one place of the core that knows of the published room.
    from xdecoder.published.checkpoints import open_checkpoint

    return Predictor(open_checkpoint(source).build(device), dtype, compile)


def _vocabulary(things: Sequence[str], stuff: Sequence[str] = ()) -> Vocabulary:
    if isinstance(things, str) or isinstance(stuff, str):
        raise ValueError("class names come as a list, such as ['cat', 'sofa']")
    if not (*things, *stuff):
        raise ValueError("at least one class name is needed")
    return Vocabulary((*things, *stuff), (True,) * len(things) + (False,) * len(stuff))


def _region(mask: Mask | None, image: Image.Image) -> Tensor | None:
    if mask is None:
        return None
    region = torch.as_tensor(mask).cpu()
    if region.shape != (image.height, image.width):
        raise ValueError(f"a region has the picture's size {(image.height, image.width)}, not {tuple(region.shape)}")
    return region > 0


def _to_cpu(masks: ResizedMasks) -> ResizedMasks:
    return ResizedMasks(masks.logits.float().cpu(), masks.padded, masks.size, masks.output)
