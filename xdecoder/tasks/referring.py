"""Referring segmentation: find what each phrase means."""

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
from xdecoder.config import Config
from xdecoder.decoder.attention import TokenGroup
from xdecoder.decoder.heads import Prediction, QueryOutputs
from xdecoder.language.encoder import Texts
from xdecoder.losses.context import StepContext
from xdecoder.losses.contrastive import cosine_logits, scale_of
from xdecoder.losses.masks import mask_losses
from xdecoder.losses.matching import Matches, MatchingConfig, match
from xdecoder.model import Encoded, XDecoder
from xdecoder.network import Prompt, TextReader
from xdecoder.regions import distinct
from xdecoder.tasks.descriptor import Descriptor
from xdecoder.tasks.segmentation import to_padded
from xdecoder.tasks.task import generators_of
from xdecoder.types import Batch, InstanceResult, Phrases, ReferringResult, Sample

_PASS = 8  # phrases that are decoded at a time
_SAME = 0.7  # IoU above which two queries have found the same


DESCRIPTOR = Descriptor(
    name="referring",
    needs="references",
    result=ReferringResult,
    evaluators=("referring", "grefcoco", "saco"),
    learns_from=("regions",),
    submission="referring.json",
    shows="What the network found for a phrase stays lit; the white line surrounds what the phrase means.",
    score="Scored by the mean IoU of the picture's phrases.",
)


class ReferringConfig(Config):
    """Weights of the terms."""

    descriptor: ClassVar[Descriptor] = DESCRIPTOR

    class_weight: float = 0.8
    """Published: 0.4, doubled for written phrases."""
    class_name_factor: float = 0.25
    """The class loss of phrases that are mere class names, compared with written ones (published: 0.5 against 2)."""
    mask_weight: float = 1.0
    dice_weight: float = 1.0
    layers: int = 3
    """Predictions that are supervised, counted from the last."""
    points: int = Field(12544, gt=0, le=2**22)
    """Points per mask in the losses."""
    matching: MatchingConfig = MatchingConfig()
    absent_cosine: float = 0.4
    """Where phrases that mean nothing in their picture are learnt: a choice of no query competes with the queries of every
    phrase, as if it were so near to the phrase."""
    threshold: float | None = Field(None, ge=-1, le=1)
    """Least cosine of a phrase and its region for the phrase to mean something that is there; none = every phrase does."""
    several: bool = False
    """When predicting, say of each phrase all that it means one by one, too; needs a threshold."""
    together: bool = False
    """When predicting, read all phrases of an image in one pass, in which they see each other (published), instead of each as
    if it were asked alone."""

    def build(self) -> Referring:
        return Referring(self)


@dataclass(frozen=True)
class PhrasePrompt(Prompt):
    phrases: tuple[Phrases, ...] = ()
    vectors: tuple[Tensor, ...] = ()  # per picture (P + A, D), a text vector per phrase, and per phrase that is absent


class Referring:
    """Grounding queries read the phrases' words; the query whose meaning is nearest to a phrase paints its region."""

    name = DESCRIPTOR.name
    compares = False
    asks = True

    def __init__(self, config: ReferringConfig) -> None:
        self.config = config

    def counts(self, model: XDecoder, batch: Batch) -> dict[str, float]:
        phrases = phrases_of(batch)
        numbers, absent = [len(image.texts) for image in phrases], sum(len(image.absent) for image in phrases)
        return {"images": len(numbers), "phrases": sum(numbers), "absent": absent, "bare": numbers.count(0)}

    def prompt(self, model: XDecoder, features: Encoded, batch: Batch, texts: TextReader) -> PhrasePrompt:
        phrases = phrases_of(batch)
        # A batch without phrases reads an empty one, which nobody sees: it takes the same way as all batches.
        distinct = sorted({text for image in phrases for text in (*image.texts, *image.absent)}) or [""]
        read = texts(distinct)
        number = {text: i for i, text in enumerate(distinct)}
        vectors = tuple(read.vectors[[number[text] for text in (*image.texts, *image.absent)]] for image in phrases)
        numbers = [[number[text] for text in (*_distinct(image), *image.absent)] for image in phrases]
        words = word_tokens(read, numbers, model.config.decoder.words_learn)
        return PhrasePrompt((model.decoder.grounding_queries(len(batch)), words), phrases, vectors)

    def loss(
        self,
        model: XDecoder,
        features: Encoded,
        layers: Sequence[Prediction],
        prompt: PhrasePrompt,
        batch: Batch,
        context: StepContext,
    ) -> dict[str, Tensor]:
        rows = [layer["grounding"] for layer in layers[: self.config.layers]]
        totals, device = context.totals, features.mask.device
        # Published quirk: one picture without phrases silences the whole batch.
        audible = not (model.config.published_quirks and totals["referring/bare"])
        masks = [to_padded(image.masks, features.padded) for image in prompt.phrases]
        embeddings = torch.stack([row.mask for row in rows])
        logits = self._logits(model, rows, prompt)
        own = [len(image.texts) for image in prompt.phrases]
        scores = [image[..., :count].detach().softmax(dim=1) for image, count in zip(logits, own, strict=True)]
        generators = generators_of(batch, "referring matching", device)
        matches = match(scores, embeddings, features.mask, masks, self.config.matching, generators)
        bce, dice = mask_losses(
            matches,
            embeddings,
            features.mask,
            masks,
            self.config.points,
            totals["referring/phrases"],
            generators_of(batch, "referring points", device),
        )
        by_image = totals["referring/images"] if model.config.published_quirks else None
        if totals.get("referring/absent"):
            none = scale_of(model.language.logit_scale) * self.config.absent_cosine
            logits = [torch.cat((image, none.expand(len(image), 1, image.shape[2])), dim=1) for image in logits]
        count = totals["referring/phrases"] + totals.get("referring/absent", 0)
        named = self._query_loss(logits, matches, prompt.phrases, count, by_image)
        return {
            "class": audible * self.config.class_weight * named,
            "mask": audible * self.config.mask_weight * bce,
            "dice": audible * self.config.dice_weight * dice,
        }

    def predict(self, model: XDecoder, features: Encoded, batch: Batch) -> list[ReferringResult]:
        results = []
        for b, (phrases, sample) in enumerate(zip(phrases_of(batch), batch.samples, strict=True)):
            score, logits = locate(model, features.of(b), phrases.texts, self.config.together)
            first = features.decoder.table.interpolation
            masks = postprocessing.resize_masks(logits, features.padded, features.sizes[b], sample.output_size, first)
            found = masks > 0
            there = is_there(score, self.config.threshold) & found.flatten(1).any(dim=1)
            each = self._instances(model, features.of(b), phrases, sample) if self.config.several else ()
            results.append(ReferringResult(found, score, there, each))
        return results

    def _instances(self, model: XDecoder, features: Encoded, phrases: Phrases, sample: Sample) -> tuple[InstanceResult, ...]:
        """All that each phrase means; scores are 0.5 at the threshold, as if a choice of nothing stood there."""
        threshold = threshold_of(self.config)
        first, found = features.decoder.table.interpolation, []
        for cosines, logits in locate_all(model, features, phrases.texts, threshold):
            masks = postprocessing.resize_masks(logits, features.padded, features.sizes[0], sample.output_size, first) > 0
            scores = (scale_of(model.language.logit_scale) * (cosines - threshold)).sigmoid()
            found.append(InstanceResult(masks, torch.zeros(len(masks), dtype=torch.int64, device=masks.device), scores))
        return tuple(found)

    def _query_loss(
        self, logits: Sequence[Tensor], matches: Matches, phrases: Sequence[Phrases], count: float, images: float | None
    ) -> Tensor:
        """Cross-entropy over queries, one per phrase, (L,); phrases of equal meaning share their queries.

        Args:
            logits: per picture (L, Q, P + A); where phrases are absent the last of the Q stands for none of the queries.
            count: the number of phrases to divide by.
            pictures: if given, take the mean over so many pictures of the mean over their phrases, as published, instead of
                the mean over all phrases.
        """
        total = sum(image.sum(dim=(1, 2)) * 0 for image in logits)
        assert isinstance(total, Tensor)
        for b, image in enumerate(phrases):
            texts = len(image.texts)
            if not texts + len(image.absent):
                continue
            wanted = torch.zeros_like(logits[b])
            wanted[:, -1, texts:] = 1
            layer, query, target = matches.of(b, wanted.device)
            wanted[layer, query, target] = 1
            meanings = _meanings(image)
            equal = [[float(a == c) for c in meanings] for a in meanings]
            wanted[..., :texts] @= torch.tensor(equal, device=wanted.device).view(texts, texts)
            wanted = wanted / wanted.sum(dim=1, keepdim=True).clamp(min=1)
            loss = -(wanted * logits[b].log_softmax(dim=1)).sum(dim=(1, 2))
            loss = loss * (1.0 if image.written else self.config.class_name_factor)
            total = total + loss / (images * logits[b].shape[2] if images else count)
        return total

    def _logits(self, model: XDecoder, rows: Sequence[QueryOutputs], prompt: PhrasePrompt) -> list[Tensor]:
        """Per picture (L, Q, P): scaled cosines of grounding queries and phrases."""
        semantic = torch.stack([row.semantic for row in rows])
        return [cosine_logits(semantic[:, b], vectors, model.language.logit_scale) for b, vectors in enumerate(prompt.vectors)]


def locate(model: XDecoder, features: Encoded, phrases: Sequence[str], together: bool = False) -> tuple[Tensor, Tensor]:
    """Cosine (P,) and mask logits (P, h, w) of the query of one encoded image that is nearest to each phrase.

    Args:
        together: read all phrases in one pass, in which they see each other (published), or each as if asked alone.
    """
    if not phrases:
        return features.mask.new_zeros(0), features.mask.new_zeros(0, *features.mask.shape[2:])
    distinct = list(dict.fromkeys(phrases))
    texts = model.language.encode(distinct)
    passes = (
        [range(len(distinct))]
        if together
        else [range(i, min(i + _PASS, len(distinct))) for i in range(0, len(distinct), _PASS)]
    )
    scores, chosen = [], []
    for numbers in passes:
        rows = [list(numbers)] if together else [[i] for i in numbers]
        queries = features.ask(model.decoder.grounding_queries(len(rows)), word_tokens(texts, rows))["grounding"]
        vectors = F.normalize(texts.vectors[list(numbers)].view(len(rows), -1, texts.vectors.shape[-1]), dim=-1)
        cosines = F.normalize(queries.semantic.float(), dim=-1) @ vectors.transpose(1, 2)  # (R, Q, P / R)
        score, query = cosines.max(dim=1)
        scores.append(score.flatten())
        chosen.append(queries.mask.gather(1, query[..., None].expand(-1, -1, queries.mask.shape[2])).flatten(0, 1))
    order = [distinct.index(phrase) for phrase in phrases]
    return torch.cat(scores)[order], torch.einsum("pc,chw->phw", torch.cat(chosen)[order], features.mask[0])


def locate_all(model: XDecoder, features: Encoded, phrases: Sequence[str], threshold: float) -> list[tuple[Tensor, Tensor]]:
    """Of each phrase, read alone, cosines (K,) and mask logits (K, h, w) of all queries of one encoded image that are near it.

    threshold: least cosine. The nearest come first, and of several whose masks are nearly one only the nearest.
    """
    if not phrases:
        return []
    texts, found = model.language.encode(list(phrases)), []
    for start in range(0, len(phrases), _PASS):
        numbers = range(start, min(start + _PASS, len(phrases)))
        queries = features.ask(model.decoder.grounding_queries(len(numbers)), word_tokens(texts, [[i] for i in numbers]))
        vectors = F.normalize(texts.vectors[list(numbers)], dim=-1)
        cosines = torch.einsum("rqd,rd->rq", F.normalize(queries["grounding"].semantic.float(), dim=-1), vectors.float())
        for score, embedding in zip(cosines, queries["grounding"].mask, strict=True):
            near = (score >= threshold).nonzero()[:, 0]
            logits = torch.einsum("kc,chw->khw", embedding[near], features.mask[0])
            kept = distinct(logits > 0, score[near], _SAME)
            found.append((score[near][kept], logits[kept]))
    return found


def threshold_of(config: ReferringConfig) -> float:
    """Least cosine of what is there; raises ValueError if none was fitted or given."""
    if config.threshold is None:
        raise ValueError(
            "all that a phrase means is what scores above a threshold; give one, or fit it to the network with `eval.py fit`"
        )
    return config.threshold


def is_there(scores: Tensor, threshold: float | None) -> Tensor:
    """Which of the phrases with these cosines (P,) mean something that is there, (P,) bool."""
    return torch.ones_like(scores, dtype=torch.bool) if threshold is None else scores >= threshold


def word_tokens(
    texts: Texts, chosen: Sequence[Sequence[int]], learns: Literal["position", "content"] = "position"
) -> TokenGroup:
    """The words of each picture's phrases, one after the other.

    Args:
        texts: what was read.
        chosen: for each picture, numbers of its phrases among them.
        learns: content and position are the same vector; the other one comes detached from the text encoder.
    """
    width = texts.tokens.shape[-1]
    rows = [texts.tokens[numbers][texts.present[numbers]].reshape(-1, width) for numbers in map(list, chosen)]
    padded = pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows], device=padded.device)
    present = torch.arange(padded.shape[1], device=padded.device)[None] < lengths[:, None]
    content, position = (padded.detach(), padded) if learns == "position" else (padded, padded.detach())
    return TokenGroup("word", content, position, present)


def phrases_of(batch: Batch) -> tuple[Phrases, ...]:
    for sample in batch.samples:
        if sample.phrases is None:
            raise ValueError(f"picture {sample.id} of {batch.source} has no phrases, which referring segmentation needs")
    return tuple(sample.phrases for sample in batch.samples if sample.phrases is not None)


def _distinct(phrases: Phrases) -> list[str]:
    """One text for each thing that is meant, the first."""
    first: dict[str, str] = {}
    for meaning, text in zip(_meanings(phrases), phrases.texts, strict=True):
        first.setdefault(meaning, text)
    return list(first.values())


def _meanings(phrases: Phrases) -> tuple[str, ...]:
    return phrases.meanings or phrases.texts
