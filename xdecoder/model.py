"""XDecoder: encode a picture, encode texts, decode queries (figure 2 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from pydantic import model_validator
from torch import Tensor, nn

from xdecoder.backbones import BackboneConfig, FocalConfig
from xdecoder.backbones.davit import BlockPair
from xdecoder.backbones.focal import FocalBlock
from xdecoder.backbones.sam import SamBlock
from xdecoder.decoder.answers import AnswerConfig, AnswerHead
from xdecoder.decoder.attention import AttentionTable, TokenGroup
from xdecoder.decoder.decoder import DecoderConfig
from xdecoder.decoder.heads import Prediction
from xdecoder.encoded import Encoded
from xdecoder.language.encoder import LanguageConfig, LanguageEncoder
from xdecoder.losses.context import StepContext
from xdecoder.losses.contrastive import cosine_logits
from xdecoder.network import Network, NetworkConfig, RepeatedLayer, Task, check_finite
from xdecoder.ops.winograd import use_winograd
from xdecoder.pixel_decoders import FpnConfig, PixelDecoderConfig
from xdecoder.pixel_decoders.deformable import DeformableLayer, DeformablePixelDecoder
from xdecoder.pixel_decoders.fpn import EncoderLayer
from xdecoder.postprocessing import Evidence
from xdecoder.regions import Proposals
from xdecoder.rng import generator, with_drawn_captions
from xdecoder.seem.encoder import StrokeEncoder, StrokesConfig
from xdecoder.types import Batch

PIXEL_MEAN = (123.675, 116.280, 103.530)
PIXEL_STD = (58.395, 57.120, 57.375)
STRIDE = 32


class EncoderDecoderConfig(NetworkConfig):
    """What the networks around the shared decoder have in common."""

    backbone: BackboneConfig = FocalConfig()
    pixel_decoder: PixelDecoderConfig = FpnConfig()
    decoder: DecoderConfig = DecoderConfig()
    language: LanguageConfig = LanguageConfig()
    strokes: StrokesConfig | None = None
    """How marked pixels become tokens; None = objects cannot be marked."""
    published_quirks: bool = False
    """Reproduce the published network's known defects; on for published weights, which were trained with them.
    Each is explained where it acts: `xdecoder.decoder.decoder.Decoder` and the tasks."""

    @model_validator(mode="after")
    def _widths_agree(self) -> Self:
        if self.pixel_decoder.width != self.decoder.width:
            raise ValueError(
                f"pixel_decoder.width ({self.pixel_decoder.width}) and decoder.width ({self.decoder.width}) must be equal"
            )
        if not self.language.output_width == self.decoder.joint_width == self.decoder.width:
            raise ValueError(
                f"language.output_width ({self.language.output_width}), decoder.joint_width ({self.decoder.joint_width}) "
                f"and decoder.width ({self.decoder.width}) must be equal: texts become decoder tokens"
            )
        return self

    def empty(self) -> Network:
        backbone = self.backbone
        if backbone.name in ("timm", "vit"):  # whose own weights would be fetched from where they came from at first
            fetched = {"pretrained": False, "checkpoint": None, "package": None}
            kept = {key: value for key, value in fetched.items() if key in type(backbone).model_fields}
            backbone = backbone.model_copy(update=kept)
        model = self.model_copy(update={"backbone": backbone}).build()
        model.config = self
        return model


class XDecoderConfig(EncoderDecoderConfig):
    """X-Decoder; the defaults are the published Focal-T."""

    name: Literal["xdecoder"] = "xdecoder"
    answers: AnswerConfig | None = None
    """The head that answers questions; None = there is none."""
    caption_image_size: int = 224
    """Side of the square pictures that it captions and retrieves best."""

    def build(self) -> XDecoder:
        return XDecoder(self)

    @model_validator(mode="after")
    def _captions_are_words(self) -> XDecoderConfig:
        if self.language.width != self.decoder.joint_width:
            raise ValueError(
                f"language.width ({self.language.width}) must equal decoder.joint_width ({self.decoder.joint_width}): "
                "captions are read off the word embeddings"
            )
        return self


class EncoderDecoder(Network):
    """What the networks around the shared decoder have in common: images and texts in, decoded queries out."""

    config: EncoderDecoderConfig
    lr_multipliers: ClassVar[Mapping[str, float]] = {"backbone": 0.1, "language": 0.1}

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = config.backbone.build()
        self.pixel_decoder = config.pixel_decoder.build(config.backbone.widths)
        self.decoder = config.decoder.build(config.published_quirks)
        self.language = LanguageEncoder(config.language)
        self.strokes = StrokeEncoder(config.strokes, config.decoder.width) if config.strokes else None

    @property
    def device(self) -> torch.device:
        return self.decoder.query_content.weight.device

    def counts(self, tasks: Sequence[Task], batch: Batch) -> dict[str, float]:
        return {f"{task.name}/{name}": n for task in tasks for name, n in task.counts(self, batch).items()}

    def losses(self, tasks: Sequence[Task], batch: Batch, context: StepContext | None = None) -> dict[str, Tensor]:
        batch = with_drawn_captions(batch)
        context = context or StepContext(self.counts(tasks, batch))
        read = lru_cache(maxsize=None)(self.language.encode)
        features = self.encode(batch.images, [sample.seed for sample in batch.samples])
        prompts = [task.prompt(self, features, batch, lambda texts: read(tuple(texts))) for task in tasks]
        groups = [group for prompt in prompts for group in prompt.groups]
        layers = self.decode(features, groups, self._table(tasks))[::-1]
        terms: dict[str, Tensor] = {}
        for task, prompt in zip(tasks, prompts, strict=True):
            for term, value in task.loss(self, features, layers, prompt, batch, context).items():
                terms |= _by_layer(f"{task.name}/{term}", value)
        return terms

    def predict(self, tasks: Sequence[Task], batch: Batch) -> dict[str, list[Any]]:
        features = replace(self.encode(batch.images), keep=any(task.asks for task in tasks))
        names = [sample.id for sample in batch.samples]
        check_finite(features.mask, names, "the pixel decoder's output")
        check_finite(features.latents.outputs.semantic, names)
        return {task.name: task.predict(self, features, batch) for task in tasks}

    def evidence(self, features: Encoded, prompts: Sequence[str], settings: Any, image: int = 0) -> Evidence:
        found: Evidence = settings.build().evidence(self, features, prompts, image)
        return found

    def proposals(self, features: Encoded, image: int = 0) -> Proposals:
        objects, first = features.latents.predictions[-1]["object"], features.decoder.table.interpolation
        masks = torch.einsum("nc,chw->nhw", objects.mask[image], features.mask[image])
        return Proposals(objects.semantic[image], masks, features.padded, features.sizes[image], first=first)

    def likelihoods(self, vectors: Tensor, prompts: Sequence[str], settings: Any) -> Tensor:
        texts = self.class_texts(prompts, settings)[:-1]  # without the background
        return cosine_logits(vectors, texts, self.language.logit_scale, clamp=False).softmax(-1)

    def graph(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (PIXEL_MEAN, PIXEL_STD))
        mask_features, maps = self.pixel_decoder(self.backbone((images - mean) / std))
        *_, last = self.decoder(mask_features, maps)
        outputs = last.object_and_image
        logits = cosine_logits(outputs.semantic, texts, self.language.logit_scale, clamp=False)
        return logits.softmax(-1), outputs.masks(mask_features)

    def class_texts(self, prompts: Sequence[str], settings: Any) -> Tensor:
        texts: Tensor = settings.build().class_texts(self, prompts)
        return texts

    def repeated_layers(self) -> list[RepeatedLayer]:
        once = (FocalBlock, BlockPair, SamBlock, EncoderLayer, DeformableLayer)
        layers = [RepeatedLayer(module) for module in self.modules() if isinstance(module, once)]
        layers += [RepeatedLayer(layer, ("cross_attend", "self_attend"), once=False) for layer in self.decoder.layers]
        return layers + [RepeatedLayer(block, once=False) for block in self.language.blocks]

    def for_inference(self, dtype: torch.dtype = torch.float32, compile: bool = False) -> None:
        """As `Network.for_inference`; texts are few, remembered, and stay precise."""
        self.eval()
        for part in (self.backbone, self.pixel_decoder, self.decoder, self.strokes):
            if part is not None:
                part.to(dtype)
        if isinstance(self.pixel_decoder, DeformablePixelDecoder):
            self.pixel_decoder.sample_precisely()
        if compile:
            self.compile_encoder(dynamic=True)
        elif self.device.type == "cpu":
            use_winograd(self.pixel_decoder)

    def compile_encoder(self, dynamic: bool | None = None) -> None:
        self.backbone.compile(dynamic=dynamic)
        self.pixel_decoder.compile(dynamic=dynamic)

    def encode(self, images: Sequence[Tensor], seeds: Sequence[int | None] = ()) -> Encoded:
        """What can be seen on pictures.

        Args:
            images: RGB pictures (3, h, w) with values 0…255; they may differ in size.
            seeds: in training, from which it is drawn for each picture which branches of the backbone it skips; without
                seeds torch's own generator decides.

        Returns:
            Maps of all pictures, padded right and below to one size (H, W) that is a multiple of the stride.
        """
        multiple = self.config.backbone.side if self.config.backbone.name == "sam" else STRIDE
        pixels = self.prepare(images, self.device, multiple).to(self.decoder.query_content.weight.dtype)
        maps = self.backbone(pixels, self._draw_paths(seeds)) if self.training else self.backbone(pixels)
        mask_features, pyramid = self.pixel_decoder(maps)
        return Encoded(
            decoder=self.decoder,
            mask=mask_features,
            maps=pyramid,
            pooled=self._pool(maps[-1]),
            sizes=tuple((image.shape[-2], image.shape[-1]) for image in images),
            padded=(pixels.shape[-2], pixels.shape[-1]),
        )

    def decode(
        self, features: Encoded, groups: Sequence[TokenGroup] = (), table: AttentionTable | None = None
    ) -> list[Prediction]:
        """Predictions before the first layer and after each one; the last is the result. `table`: if not the decoder's own."""
        return list(self.decoder(features.mask, features.maps, groups, table))

    def _table(self, tasks: Sequence[Task]) -> AttentionTable:
        """Who may look at whom while these tasks learn together."""
        return self.decoder.table

    def _pool(self, coarsest: Tensor) -> Tensor | None:
        """What the backbone's coarsest map (B, C, h, w) says by itself in the joint space, (B, D); None: nothing."""
        return None

    def _draw_paths(self, seeds: Sequence[int | None]) -> Tensor | None:
        """Uniform numbers (B, P), one for each branch of the backbone that a picture may skip."""
        count: int = self.backbone.paths
        if not count or not seeds or None in seeds:
            return None
        return torch.stack([torch.rand(count, generator=generator(seed, "paths")) for seed in seeds]).to(self.device)

    @staticmethod
    def prepare(
        images: Sequence[Shaped[Tensor, "3 _ _"]], device: torch.device, multiple: int = STRIDE
    ) -> Float[Tensor, "B 3 H W"]:
        """Normalise, then pad right and below with zeros to a common multiple of `multiple` pixels: (B, 3, H, W)."""
        # A GPU takes these in its turn; it is not waited for.
        mean, std = (torch.tensor(x)[:, None, None].to(device, non_blocking=True) for x in (PIXEL_MEAN, PIXEL_STD))
        height, width = padded_size(images, multiple)
        return torch.stack(
            [
                F.pad(
                    (image.to(device, non_blocking=True).float() - mean) / std,
                    (0, width - image.shape[-1], 0, height - image.shape[-2]),
                )
                for image in images
            ]
        )


class XDecoder(EncoderDecoder):
    """Generalised decoding for pixels, images and language."""

    config: XDecoderConfig

    def __init__(self, config: XDecoderConfig) -> None:
        super().__init__(config)
        decoder = config.decoder
        self.backbone_proj = nn.Parameter(torch.empty(config.backbone.widths[-1], decoder.joint_width))
        nn.init.trunc_normal_(self.backbone_proj, std=config.backbone.widths[-1] ** -0.5)
        self.answers: AnswerHead | None = None
        if config.answers:
            assert decoder.caption_length is not None
            self.answers = AnswerHead(config.answers, decoder.width, decoder.caption_length, decoder.heads, decoder.hidden)

    def for_inference(self, dtype: torch.dtype = torch.float32, compile: bool = False) -> None:
        super().for_inference(dtype, compile)
        self.backbone_proj.data = self.backbone_proj.to(dtype)

    def _table(self, tasks: Sequence[Task]) -> AttentionTable:
        """Questions may want latent queries that look everywhere."""
        names = [task.name for task in tasks]
        if "vqa" not in names or self.config.answers is None or self.config.answers.masked_latents:
            return self.decoder.table
        if len(names) > 1:
            raise ValueError(
                "answers that are read from unmasked latent queries (model.answers.masked_latents: false) are trained in a "
                "stream of their own; give task 'vqa' an entry of data.train to itself"
            )
        return self.decoder.table.unmasked()

    def _pool(self, coarsest: Tensor) -> Tensor:
        return coarsest.mean(dim=(2, 3)) @ self.backbone_proj


def _by_layer(name: str, value: Tensor) -> dict[str, Tensor]:
    if value.dim() == 0:
        return {name: value}
    return {f"{name}/layer{i}": term for i, term in enumerate(value)}


def padded_size(images: Sequence[Tensor], multiple: int = STRIDE) -> tuple[int, int]:
    """Height and width that hold all pictures (…, h, w) and are multiples of so many pixels."""
    height, width = (-(-max(image.shape[i] for image in images) // multiple) * multiple for i in (-2, -1))
    return height, width
