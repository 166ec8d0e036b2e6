"""SED: a cost map of every place with every class and template, fused gradually with an image encoder's features (figure 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from xdecoder.losses.context import StepContext
from xdecoder.network import Network, NetworkConfig, RepeatedLayer, Task, check_evidence, check_finite
from xdecoder.postprocessing import Evidence
from xdecoder.sed.clip import PIXEL_MEAN, PIXEL_STD, ClipConfig, ImageFeatures
from xdecoder.sed.decoder import Decoder, DecoderConfig, Logits
from xdecoder.sed.inference import Decoded, decode
from xdecoder.sed.losses import IGNORED, Ignored, pixel_loss, terms
from xdecoder.sed.vocabulary import Templates, TextEmbeddings, templates
from xdecoder.types import Batch, Sample, SegmentationResult, Vocabulary

STRIDE = 32
_TRUNK = "clip.model.visual.trunk"
FINETUNING: Mapping[str, tuple[str, ...]] = {
    "full": (),
    "full_res5": (f"{_TRUNK}.stem", f"{_TRUNK}.stages.[012]", f"{_TRUNK}.head", "clip.model.visual.head"),
    "mlp": (
        *(f"{_TRUNK}.{part}" for part in ("stem", "stages.*.downsample", "head")),
        *(f"{_TRUNK}.stages.*.blocks.*.{part}" for part in ("conv_dw", "norm", "gamma")),
        "clip.model.visual.head.proj",
    ),
    "conv": (
        *(f"{_TRUNK}.{part}" for part in ("stem", "stages.*.downsample", "head")),
        *(f"{_TRUNK}.stages.*.blocks.*.{part}" for part in ("mlp", "norm", "gamma")),
        "clip.model.visual.head",
    ),
    "attention": ("clip",),
    "fast_infer": ("clip", *(f"decoder.{part}" for part in ("embed", "image_skips", "cost_skips", "stages", "head"))),
}
"""The published policies of learning (`CLIP_FINETUNE`) as what `trainer.freeze` names. Texts' side never learns."""
_VALUES = 1 << 25  # numbers of the resized maps that are held at a time


class SedConfig(NetworkConfig):
    """SED; the defaults are the published SED-B."""

    name: Literal["sed"] = "sed"
    clip: ClipConfig = Field(default_factory=ClipConfig)  # when it is asked for, since open_clip takes seconds to import
    decoder: DecoderConfig = DecoderConfig()
    templates: Templates = "imagenet"
    """The sentences around class names; their number is the number of the cost map's channels."""
    resolution: int = Field(768, gt=0, multiple_of=STRIDE)
    """Side of the square to which images are resized, whatever their shape."""
    image_size: int = 640
    """Shorter side to which the predictor resizes images before that, as the published evaluation does."""
    ignored: Ignored = "negative"
    """Whether pixels of no class count in the loss as negatives of every class (published) or are left out."""

    def build(self) -> Sed:
        return Sed(self)

    def empty(self) -> Sed:
        model = Sed(self.model_copy(update={"clip": self.clip.model_copy(update={"weights": None})}))
        model.config = self
        return model


@dataclass(frozen=True)
class PixelEvidence(Evidence):
    """How likely each pixel is of each class that was not rejected. There are no queries: a class is its own."""

    classes: int = 0
    decoded: Decoded | None = None

    @staticmethod
    def of(decoded: Decoded, classes: int) -> PixelEvidence:
        """The evidence of what was decoded of one image for so many classes."""
        alive, size = decoded.alive, (decoded.logits.shape[1], decoded.logits.shape[2])
        probabilities = torch.eye(len(alive), len(alive) + 1, device=alive.device)
        return PixelEvidence(probabilities, decoded.logits, alive, size, size, classes, decoded)

    def semantic(self, output: tuple[int, int], threshold: float = 0.0) -> Tensor:
        """As of any evidence. Probabilities, not logits, are resized, a few classes at a time; rejected classes have 0."""
        rejected = _first_absent(self.labels, self.classes)
        best = self.masks.new_full(output, -1.0 if rejected is None else 0.0, dtype=torch.float32)
        labels = torch.full(output, rejected or 0, dtype=torch.int64, device=self.masks.device)
        step = max(_VALUES // (output[0] * output[1]), 1)
        for start in range(0, len(self.labels), step):
            value, which = self.pixels(output, start, start + step).max(dim=0)
            better = value > best
            labels = torch.where(better, self.labels[start + which], labels)
            best = torch.where(better, value, best)
        return labels.masked_fill(best < threshold, -1)

    def pixels(self, output: tuple[int, int], start: int = 0, stop: int | None = None) -> Tensor:
        """Probabilities (n, H, W) of some of the classes that were not rejected."""
        some = self.masks[start:stop].float().sigmoid()
        return F.interpolate(some[None], size=output, mode="bilinear", align_corners=False)[0]

    def resized(self, output: tuple[int, int]) -> Any:
        raise ValueError("this network (sed) tells the classes of pixels, not objects from each other; ask it to segment")


class Sed(Network):
    """Semantic segmentation with any vocabulary."""

    config: SedConfig
    lr_multipliers: ClassVar[Mapping[str, float]] = {"clip": 0.01}
    tasks: ClassVar[tuple[str, ...] | None] = ("segmentation",)
    fewest_classes: ClassVar[int] = 2

    def __init__(self, config: SedConfig) -> None:
        super().__init__()
        self.config = config
        self.clip = config.clip.build()
        stride4, stride8, stride16, _ = config.clip.widths
        self.decoder = Decoder(config.decoder, len(templates(config.templates)), (stride16, stride8, stride4))
        self.texts = TextEmbeddings(self.clip, config.templates)
        for parameter in self.clip.text_parameters():
            parameter.requires_grad_(False)

    @property
    def device(self) -> torch.device:
        return self.decoder.head.weight.device

    def keep_texts(self, folder: Path) -> None:
        self.texts.folder = folder

    def embed(self, names: Sequence[str], progress: Callable[[int, int], None] | None = None) -> Tensor:
        """Text embeddings (T, P, C) of class names; as `TextEmbeddings`."""
        return self.texts(names, progress)

    def encode(self, images: Sequence[Tensor], seeds: Sequence[int | None] = ()) -> ImageFeatures:
        """What can be seen on RGB images (3, h, w) with values 0…255; they may differ in size.

        Args:
            images: each is squashed to the network's square.
            seeds: not used: what open_clip's encoder skips while training is drawn from torch's own generator.
        """
        pixels = torch.cat([self.prepare(image) for image in images])
        return self.clip.encode_images(pixels.to(self.decoder.head.weight.dtype))

    def prepare(self, image: Tensor) -> Tensor:
        """An image (3, h, w) normalised and squashed to the network's square: (1, 3, R, R)."""
        return self._squashed(image[None].to(self.device).float())

    def _squashed(self, images: Tensor) -> Tensor:
        mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (PIXEL_MEAN, PIXEL_STD))
        size = (self.config.resolution, self.config.resolution)
        return F.interpolate((images - mean) / std, size=size, mode="bilinear", align_corners=False)

    def forward(self, features: ImageFeatures, text: Tensor) -> Logits:
        """Logits of T classes for training; text: (T, P, C)."""
        return self.decoder(features.dense, text, features.skips)

    def counts(self, tasks: Sequence[Task], batch: Batch) -> dict[str, float]:
        classes = len(vocabulary_of(batch))
        count = sum(terms(labels_of(sample, batch.source), classes, self.config.ignored) for sample in batch.samples)
        return {"segmentation/pixels": count}

    def losses(self, tasks: Sequence[Task], batch: Batch, context: StepContext | None = None) -> dict[str, Tensor]:
        """As of any network. Layer 0 is the final head, the others are the auxiliary heads; all have weight 1."""
        for task in tasks:
            self.require(task.name)
        context = context or StepContext(self.counts(tasks, batch))
        logits = self(self.encode(batch.images), self.embed(vocabulary_of(batch).names))
        labels = [labels_of(sample, batch.source) for sample in batch.samples]
        total = max(context.totals["segmentation/pixels"], 1)
        return {
            f"segmentation/pixels/layer{i}": torch.stack(
                [pixel_loss(own, wanted, self.config.ignored) for own, wanted in zip(head, labels, strict=True)]
            ).sum()
            / total
            for i, head in enumerate((logits.final, *logits.auxiliary))
        }

    def predict(self, tasks: Sequence[Task], batch: Batch) -> dict[str, list[Any]]:
        features = self.encode(batch.images)
        check_finite(features.dense, [sample.id for sample in batch.samples], "the encoder's output")
        return {task.name: self._segmented(task, features, batch) for task in tasks}

    def _segmented(self, task: Any, features: ImageFeatures, batch: Batch) -> list[SegmentationResult]:
        self.require(task.name)
        prompts, results = vocabulary_of(batch).names, []
        for i, sample in enumerate(batch.samples):
            found = self.evidence(features, prompts, task.config, i)
            check_evidence(found, [sample.id])
            results.append(SegmentationResult(found.semantic(sample.output_size), None, None))
        return results

    def evidence(self, features: ImageFeatures, prompts: Sequence[str], settings: Any, image: int = 0) -> PixelEvidence:
        """As of any network; of the settings only early rejection's `keep` is read, which acts at each of its three stages."""
        rejection = settings.early_rejection
        return self.segment(features.of(image), self.embed(prompts), rejection and rejection.keep)[0]

    def segment(self, features: ImageFeatures, text: Tensor, keep: int | None = None) -> list[PixelEvidence]:
        """The classes of each image's pixels; text: (T, P, C); keep: as of `xdecoder.sed.inference.decode`."""
        found = decode(self.decoder, features.dense, text, features.skips, keep)
        return [PixelEvidence.of(decoded, len(text)) for decoded in found]

    def graph(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """As of any network. A class is its own query; the background, which SED does not know, is never likely."""
        text = texts[:-1].unflatten(1, (-1, self.clip.joint_width))
        features = self.clip.encode_images(self._squashed(images))
        logits = self.decoder(features.dense, text, features.skips).final
        size = (images.shape[-2] // 4, images.shape[-1] // 4)
        masks = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        probabilities = torch.eye(text.shape[0], device=images.device)
        return F.pad(probabilities, (0, 1)).expand(images.shape[0], -1, -1), masks

    def class_texts(self, prompts: Sequence[str], settings: Any) -> Tensor:
        return F.pad(self.embed(prompts).flatten(1), (0, 0, 0, 1))

    def repeated_layers(self) -> list[RepeatedLayer]:
        blocks = [block for stage in self.clip.model.visual.trunk.stages for block in stage.blocks]
        return [RepeatedLayer(module) for module in (*blocks, *self.decoder.stages)]

    def for_inference(self, dtype: torch.dtype = torch.float32, compile: bool = False) -> None:
        """As `Network.for_inference`; texts are few, remembered, and stay precise."""
        self.eval()
        self.clip.model.visual.to(dtype)
        self.decoder.to(dtype)
        if compile:
            self.compile_encoder()

    def compile_encoder(self, dynamic: bool | None = None) -> None:
        """As `Network.compile_encoder`; images always come to the encoder in one size."""
        for stage in self.clip.model.visual.trunk.stages:
            stage.compile()


def vocabulary_of(batch: Batch) -> Vocabulary:
    """Raises ValueError for a data set without classes."""
    if batch.vocabulary is None:
        raise ValueError(f"data set {batch.source} has no class names, which segmentation needs")
    return batch.vocabulary


def labels_of(sample: Sample, source: str) -> Tensor:
    """The class of each pixel of the image as the network gets it, (H, W) int64; where regions overlap, the later one's.

    Raises:
        ValueError: for a sample without regions.
    """
    if sample.segments is None:
        raise ValueError(f"picture {sample.id} of {source} has no annotated regions, which segmentation learns from")
    masks, numbers = sample.segments.masks, sample.segments.labels
    labels = torch.full(masks.shape[1:], IGNORED, dtype=torch.int64, device=masks.device)
    for mask, number in zip(masks, numbers, strict=True):
        labels[mask] = number
    return labels


def _first_absent(alive: Tensor, classes: int) -> int | None:
    """The lowest number below `classes` that is not alive."""
    absent = torch.ones(classes, dtype=torch.bool, device=alive.device)
    absent[alive] = False
    return int(absent.int().argmax()) if bool(absent.any()) else None
