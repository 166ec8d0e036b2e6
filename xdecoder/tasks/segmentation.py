"""Semantic, instance and panoptic segmentation with any vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from xdecoder import postprocessing
from xdecoder.config import Config, ConfigError
from xdecoder.decoder.heads import Prediction
from xdecoder.language.encoder import Prompting
from xdecoder.language.prompts import clean, random_prompt
from xdecoder.language.stems import stem
from xdecoder.losses.context import StepContext
from xdecoder.losses.contrastive import cosine_logits
from xdecoder.losses.masks import mask_losses
from xdecoder.losses.matching import Matches, MatchingConfig, match
from xdecoder.losses.nouns import Named, noun_loss
from xdecoder.model import Encoded, XDecoder
from xdecoder.network import Prompt, TextReader, check_evidence
from xdecoder.postprocessing import Evidence, PostprocessingConfig
from xdecoder.rng import generator
from xdecoder.tasks.denoising import denoising_losses, denoising_queries
from xdecoder.tasks.descriptor import Descriptor
from xdecoder.tasks.task import generators_of
from xdecoder.types import Batch, SegmentationResult, Segments, Vocabulary

BACKGROUND = "background"
_UNKNOWN = -100  # in the place of a query's class: it is learnt from a set of classes, or not at all


class EarlyRejection(Config):
    """Classes that no query finds likely at an early layer are dropped for that picture; what results cost then hardly depends
    on how many classes are asked for. SED (Xie et al., CVPR 2024), whose idea it is, drops those that are among the best of no
    place: at each of its three stages, so that only `keep` has a meaning there."""

    layer: int = Field(3, ge=0)
    """The decoder layer behind which queries choose, counted from 1; 0 = before the first one."""
    keep: int = Field(8, ge=1)
    """Classes that each query keeps (SED: that each place keeps; published 8)."""


DESCRIPTOR = Descriptor(
    name="segmentation",
    needs="regions",
    result=SegmentationResult,
    evaluators=("panoptic", "cityscapes_instance", "instance", "confusion", "semantic", "iiou", "calibration"),
    takes=("captions", "nouns"),
    shows="Every pixel gets a class and every countable thing an outline: the annotation beside what the network found.",
    score="Scored by panoptic quality, AP or mIoU of the picture alone, whichever its set is measured with first.",
)


class SegmentationConfig(Config):
    """Weights of the terms (section 4 of the paper) and the thresholds of the results."""

    descriptor: ClassVar[Descriptor] = DESCRIPTOR

    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    background_weight: float = 0.1
    """Weight of "no object" in the class loss."""
    noun_weight: float = 0.0
    """Weight of the contrast of queries with their picture's class names, nouns and caption; published 1.0, 0 leaves it out."""
    denoising_weight: float = 0.0
    """Factor on the same three terms for denoising queries (`xdecoder.tasks.denoising`), which help a network that starts from
    nothing; 0 leaves them out."""
    layers: int = 10
    """Predictions that are supervised, counted from the last."""
    noun_layers: int = 3
    """Predictions of which queries are contrasted with nouns, counted from the last."""
    points: int = Field(12544, gt=0, le=2**22)
    """Points per mask in the losses."""
    matching: MatchingConfig = MatchingConfig()
    postprocessing: PostprocessingConfig = PostprocessingConfig()
    templates: Literal["published", "none", "clean"] = "published"
    """Sentences around class names: published (one of 81 at random in training, their mean when predicting) or none; clean:
    none, and without the markers of COCO's merged classes, so that "wall-other-merged" is learnt as the wall people ask for."""
    background: bool = True
    """Whether "no object" competes with the classes when predicting (published)."""
    temperature: float = Field(1.0, gt=0)
    """What logits of classes are divided by when predicting, so that scores are as sure as they are right; `eval.py fit` fits
    it to a network on the sets of `data.fit` whose task is segmentation."""
    early_rejection: EarlyRejection | None = None
    """For vocabularies of hundreds of names and more; none = every class is considered to the end."""
    learn_texts: bool = True
    """Let the class loss teach the text encoder too (published). One that starts from nothing would first make all names alike
    whose regions cannot be told apart yet, and after that neither side learns; then False leaves it to the other tasks."""

    def build(self) -> Segmentation:
        return Segmentation(self)


@dataclass(frozen=True)
class VocabularyPrompt(Prompt):
    classes: Tensor | None = None  # (K + 1, D) class texts, "background" last
    nouns: tuple[Named, ...] = ()  # per picture its caption's nouns and the caption, where they are learnt


class Segmentation:
    """Object queries compete for annotated regions; a query's class is the nearest class text."""

    name = DESCRIPTOR.name
    asks = False

    def __init__(self, config: SegmentationConfig) -> None:
        self.config = config
        self.compares = config.noun_weight > 0

    def counts(self, model: XDecoder, batch: Batch) -> dict[str, float]:
        queries, segments = model.config.decoder.queries - 1, segments_of(batch)
        matched = [min(len(image.labels), queries) for image in segments]
        told = [image.complete is None or bool(image.complete.any()) for image in segments]
        rest = sum(queries - own for own, some in zip(matched, told, strict=True) if some) * self.config.background_weight
        return {"masks": sum(len(image.labels) for image in segments), "class weight": sum(matched) + rest}

    def prompt(self, model: XDecoder, features: Encoded, batch: Batch, texts: TextReader) -> VocabularyPrompt:
        names = (*self._names(vocabulary_of(batch).prompts), BACKGROUND)
        templates: Prompting = "random" if self.config.templates == "published" else "none"
        classes = model.language.vocabulary(names, templates, generator(batch.seed, "templates"))
        nouns = self._read_nouns(model, batch, texts) if self.config.noun_weight else ()
        shown = [to_padded(own.masks, features.padded) for own in segments_of(batch)] if self.config.denoising_weight else []
        denoising = (denoising_queries(model, shown),) if shown else ()
        return VocabularyPrompt(denoising, classes if self.config.learn_texts else classes.detach(), nouns)

    def _read_nouns(self, model: XDecoder, batch: Batch, texts: TextReader) -> tuple[Named, ...]:
        """The nouns of each picture's one caption, each in a sentence of its own, and the caption."""
        sentences: list[list[str]] = []
        words: list[tuple[str, ...]] = []
        for sample in batch.samples:
            nouns = sample.nouns[0] if sample.nouns else ()
            rng = generator(sample.seed, "noun templates")
            in_sentence = self.config.templates == "published"
            filled = [random_prompt(noun, rng) for noun in nouns] if in_sentence else list(nouns)
            sentences.append([*filled, *sample.captions[:1]])
            words.append(tuple(stem(text) for text in (*nouns, *sample.captions[:1])))
        every = [sentence for image in sentences for sentence in image]
        vectors = texts(every or [""]).vectors[: len(every)].split([len(image) for image in words])
        return tuple(Named(own, image) for own, image in zip(vectors, words, strict=True))

    def loss(
        self,
        model: XDecoder,
        features: Encoded,
        layers: Sequence[Prediction],
        prompt: VocabularyPrompt,
        batch: Batch,
        context: StepContext,
    ) -> dict[str, Tensor]:
        assert prompt.classes is not None
        supervised = layers[: self.config.layers]
        segments = segments_of(batch)
        masks = [to_padded(s.masks, features.padded) for s in segments]
        semantic = torch.stack([layer["object"].semantic for layer in supervised])  # (L, B, Q, D)
        embeddings = torch.stack([layer["object"].mask for layer in supervised])  # (L, B, Q, C)
        logits = cosine_logits(semantic, prompt.classes, model.language.logit_scale, clamp=False)  # (L, B, Q, K + 1)
        likely = logits.detach().softmax(-1)
        scores = [likely[:, b][..., s.labels] for b, s in enumerate(segments)]
        device, totals = features.mask.device, context.totals
        generators = generators_of(batch, "segmentation matching", device)
        matches = match(scores, embeddings, features.mask, masks, self.config.matching, generators)
        bce, dice = mask_losses(
            matches,
            embeddings,
            features.mask,
            masks,
            self.config.points,
            totals["segmentation/masks"],
            generators_of(batch, "segmentation points", device),
        )
        named = self._class_loss(logits, matches, segments, totals["segmentation/class weight"])
        terms = {
            "class": self.config.class_weight * named,
            "mask": self.config.mask_weight * bce,
            "dice": self.config.dice_weight * dice,
        }
        if self.config.denoising_weight:
            terms |= self._denoising_terms(model, features, layers, prompt.classes, masks, batch, totals["segmentation/masks"])
        if prompt.nouns:
            terms["noun"] = self.config.noun_weight * self._noun_loss(model, semantic, matches, prompt, batch, context)
        return terms

    def _denoising_terms(
        self,
        model: XDecoder,
        features: Encoded,
        layers: Sequence[Prediction],
        classes: Tensor,
        masks: Sequence[Tensor],
        batch: Batch,
        count: float,
    ) -> dict[str, Tensor]:
        denoising = [layer["denoising"] for layer in layers[:-1]]  # the first have not looked yet
        labels = [own.labels for own in segments_of(batch)]
        generators = generators_of(batch, "pilot points", features.mask.device)
        losses = denoising_losses(model, features, denoising, classes, labels, masks, self.config.points, count, generators)
        weights = (self.config.class_weight, self.config.mask_weight, self.config.dice_weight)
        names = ("denoising_class", "denoising_mask", "denoising_dice")
        return {
            name: self.config.denoising_weight * weight * loss
            for name, weight, loss in zip(names, weights, losses, strict=True)
        }

    def _noun_loss(
        self, model: XDecoder, semantic: Tensor, matches: Matches, prompt: VocabularyPrompt, batch: Batch, context: StepContext
    ) -> Tensor:
        """Contrast of queries with words per layer, (L,).

        Published quirk: what the unmatched queries say is compared without gradient, so only texts learn from it.
        """
        assert prompt.classes is not None
        names = [stem(clean(name)) for name in vocabulary_of(batch).prompts]
        nouns, scale = _everyones_texts(prompt.nouns, context), context.once(model.language.logit_scale)
        per_layer = []
        for layer, queries in enumerate(semantic[: self.config.noun_layers]):
            matched, classes = [], []
            for b, image in enumerate(segments_of(batch)):
                mine = (matches.layer == layer) & (matches.image == b)
                labels = image.labels[matches.target[mine].to(image.labels.device)]
                matched.append(matches.query[mine])
                classes.append(Named(prompt.classes[labels], tuple(names[label] for label in labels.tolist())))
            everyones = context.everyones([query.tolist() for query in matched])
            taken = [torch.tensor(query, dtype=torch.int64, device=queries.device) for query in everyones]
            per_layer.append(
                noun_loss(
                    context.everyone(queries),
                    taken,
                    _everyones_texts(classes, context),
                    nouns,
                    scale,
                    detach_unmatched=model.config.published_quirks,
                )
            )
        return context.share(torch.stack(per_layer))

    def _class_loss(self, logits: Tensor, matches: Matches, segments: Sequence[Segments], weights: float) -> Tensor:
        """Cross-entropy per layer, (L,); queries without a match should say background.

        On a picture where not every class was annotated, they should say background or one of the classes that were not: such
        a query may well have found something. Where no class was, nothing is asked of them.

        weights: what the sum is divided by.
        """
        background = logits.shape[-1] - 1
        wanted = torch.full(logits.shape[:-1], background, device=logits.device)
        open_sets = logits.new_zeros(len(logits))
        for b, image in enumerate(segments):
            layer, query, target = matches.of(b, wanted.device)
            wanted[layer, b, query] = image.labels[target]
            if image.complete is not None:
                unmatched = wanted[:, b] == background
                possible = F.pad(~image.complete, (0, 1), value=True).to(logits.device)
                chance = logits[:, b].log_softmax(-1)[..., possible].logsumexp(-1)  # (L, Q)
                open_sets = open_sets - self.config.background_weight * (chance * unmatched).sum(dim=1)
                wanted[:, b].masked_fill_(unmatched, _UNKNOWN)
        weight = torch.ones(background + 1, device=logits.device)
        weight[background] = self.config.background_weight
        closed = [
            F.cross_entropy(layer.flatten(0, 1), target.flatten(), weight, reduction="sum", ignore_index=_UNKNOWN)
            for layer, target in zip(logits, wanted, strict=True)
        ]
        return (torch.stack(closed) + open_sets) / max(weights, 1e-6)

    def predict(self, model: XDecoder, features: Encoded, batch: Batch) -> list[SegmentationResult]:
        vocabulary = vocabulary_of(batch)
        results = []
        for b, sample in enumerate(batch.samples):
            found = model.evidence(features, vocabulary.prompts, self.config, b)
            check_evidence(found, [sample.id])
            masks = found.resized(sample.output_size)
            is_thing = found.countable(vocabulary.is_thing)
            config, semantic, instances, panoptic = self.config.postprocessing, None, None, None
            if batch.asks_for("semantic"):
                semantic = postprocessing.semantic_map(found.probabilities, masks)
            if batch.asks_for("instances"):
                instances = postprocessing.instances(found.probabilities, masks, is_thing, config.detections)
            if batch.asks_for("panoptic"):
                panoptic = postprocessing.panoptic(found.probabilities, masks, is_thing, config)
            results.append(postprocessing.relabelled(SegmentationResult(semantic, instances, panoptic), found.labels))
        return results

    def evidence(self, model: XDecoder, features: Encoded, prompts: Sequence[str], image: int = 0) -> Evidence:
        """How likely each query of an encoded image is of each class, and its mask.

        Args:
            prompts: what the text encoder reads for each of K classes.
            image: which of the encoded images.
        """
        classes = self.class_texts(model, prompts)
        outputs, kept = features.latents.outputs, self._kept(features.latents.predictions, image, classes)
        logits = cosine_logits(outputs.semantic[image].float(), classes[kept], model.language.logit_scale, clamp=False)
        if not self.config.background:
            logits[:, -1] = float("-inf")
        masks = torch.einsum("nc,chw->nhw", outputs.mask[image], features.mask[image])
        first = features.decoder.table.interpolation
        likely = (logits / self.config.temperature).softmax(-1)
        return Evidence(likely, masks, kept[:-1], features.padded, features.sizes[image], first=first)

    def class_texts(self, model: XDecoder, prompts: Sequence[str]) -> Tensor:
        """Texts (K + 1, D) of K classes, and of the background last, as the network is measured with them."""
        templates: Prompting = "ensemble" if self.config.templates == "published" else "none"
        return model.language.vocabulary((*self._names(prompts), BACKGROUND), templates)

    def _names(self, prompts: Sequence[str]) -> Sequence[str]:
        return [clean(name) for name in prompts] if self.config.templates == "clean" else prompts

    def _kept(self, layers: Sequence[Prediction], image: int, classes: Tensor) -> Tensor:
        """Which rows of `classes` (K + 1, D) are considered for an image, in ascending order; the background always is."""
        early, count = self.config.early_rejection, len(classes) - 1
        if early is None or early.keep >= count:
            return torch.arange(count + 1, device=classes.device)
        if early.layer >= len(layers):
            key = "tasks.segmentation.early_rejection.layer"
            raise ConfigError(f"{key} is {early.layer}, but the decoder has {len(layers) - 1} layers")
        rows = F.normalize(layers[early.layer].object_and_image.semantic[image].float(), dim=-1)
        likely = (rows @ classes[:-1].float().T).topk(early.keep, dim=-1).indices.unique()
        return torch.cat((likely, likely.new_tensor([count])))


def _everyones_texts(texts: Sequence[Named], context: StepContext) -> list[Named]:
    """Each picture's texts, of all pictures of the step."""
    words = context.everyones([image.words for image in texts])
    vectors = context.everyone(pad_sequence([image.vectors for image in texts], batch_first=True))
    return [Named(own[: len(image)], tuple(image)) for own, image in zip(vectors, words, strict=True)]


def vocabulary_of(batch: Batch) -> Vocabulary:
    if batch.vocabulary is None:
        raise ValueError(f"data set {batch.source} has no class names, which segmentation needs")
    return batch.vocabulary


def segments_of(batch: Batch) -> list[Segments]:
    for sample in batch.samples:
        if sample.segments is None:
            raise ValueError(f"picture {sample.id} of {batch.source} has no annotated regions, which segmentation learns from")
    return [sample.segments for sample in batch.samples if sample.segments is not None]


def to_padded(masks: Tensor, padded: tuple[int, int]) -> Tensor:
    """Masks (N, h, w) padded right and below with False to the size at which the batch was encoded."""
    height, width = padded
    return F.pad(masks, (0, width - masks.shape[-1], 0, height - masks.shape[-2]))
