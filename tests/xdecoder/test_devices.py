"""No tensor of one device meets another's, and nothing waits for a GPU: on a pretended one, which has shapes but no numbers.

`FakeTensorMode` refuses what mixes devices, and whatever needs a number on the processor, for which a real GPU is waited for.
Backwards need a real one. Losses of texts choose words by a mask, which waits; they are not here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode

from tests.tiny import VOCABULARY, tiny_batch, tiny_config, tiny_tasks
from xdecoder import postprocessing
from xdecoder.language.encoder import Texts
from xdecoder.losses.context import StepContext
from xdecoder.losses.matching import Matches
from xdecoder.model import XDecoder
from xdecoder.network import Prompt
from xdecoder.tasks import captioning, referring, segmentation
from xdecoder.types import Batch, to_device

GPU = torch.device("cuda", 0)


@pytest.fixture
def pretended() -> Iterator[XDecoder]:
    """A network on a pretended GPU, in the mode that pretends."""
    with torch.device("meta"):
        model = tiny_config().build()
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield model.to_empty(device=GPU).eval()


def images() -> list[Tensor]:
    return [torch.zeros(3, 64, 96, dtype=torch.uint8), torch.zeros(3, 48, 64, dtype=torch.uint8)]


def texts(count: int, length: int = 7) -> Texts:
    def made(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(*size, dtype=dtype, device=GPU)

    ids, present = made(count, length, dtype=torch.int64), made(count, length, dtype=torch.bool)
    return Texts(ids, made(count, length, 32), made(count, 32), made(count, dtype=torch.int64), present)


def batch() -> Batch:
    """On the GPU, one caption a sample: which one is drawn on the processor."""
    found = tiny_batch()
    samples = tuple(replace(sample, captions=sample.captions[:1]) for sample in found.samples)
    return to_device(replace(found, samples=samples), GPU)


@dataclass(frozen=True)
class Fixed(Matches):
    """Region n is query n's, in every layer; known without looking."""

    layers: int
    counts: tuple[int, ...]

    @property
    def images(self) -> list[int]:
        return list(range(len(self.counts)))

    def of(self, image: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        region = torch.arange(self.counts[image], device=device).repeat(self.layers)
        layer = torch.arange(self.layers, device=device)[:, None].expand(-1, self.counts[image]).flatten()
        return layer, region, region


def fixed(scores: Any, embeddings: Tensor, features: Tensor, targets: Any, *_: Any) -> Matches:
    assert {x.device for x in (embeddings, features, *scores, *targets)} == {GPU}
    return Fixed(*torch.zeros(4, 1, dtype=torch.int64), layers=len(embeddings), counts=tuple(map(len, targets)))


def test_the_pretended_gpu_refuses_what_a_real_one_would(pretended: XDecoder) -> None:
    with pytest.raises(RuntimeError, match="same device"):
        pretended.decoder.query_content.weight + torch.zeros(1, 32)
    with pytest.raises(DataDependentOutputException):
        pretended.decoder.query_content.weight.sum().item()


@pytest.mark.parametrize("full_size_masks", [False, True])
def test_encoding_and_decoding(pretended: XDecoder, full_size_masks: bool) -> None:
    with torch.no_grad():
        features = replace(pretended.encode(images()), full_size_masks=full_size_masks)
        said = captioning.caption_tokens(pretended, texts(2))
        asked = features.ask(said, past=features.latents.tokens.continued())["caption"].word
        found = features.ask(pretended.decoder.grounding_queries(2), replace(said, name="word"))["grounding"]
        everything = (features.latents.outputs.semantic, asked, found.masks(features.mask), features.pooled)
    assert {x.device for x in everything if x is not None} == {GPU}


def test_maps_wait_only_to_know_which_regions_there_are(pretended: XDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = postprocessing.ResizedMasks(torch.zeros(9, 16, 24, device=GPU), (64, 96), (60, 90), (120, 180))
    probabilities, is_thing = torch.zeros(9, 4, device=GPU), torch.zeros(3, dtype=torch.bool, device=GPU)
    assert postprocessing.semantic_map(probabilities, masks).device == masks.inside().device == GPU
    asked: list[tuple[int, ...]] = []

    def told(x: Tensor) -> list[list[float]]:
        """What comes of it: of each query score, class and kind; then three areas of each."""
        asked.append(tuple(x.shape))
        row = [[1.0, 0.9, float(i % 3), 1.0] for i in range(9)] if len(asked) == 1 else [[9.0] * 3] * 9
        return [list(column) for column in zip(*row, strict=True)]

    monkeypatch.setattr(FakeTensor, "tolist", told)
    result = postprocessing.panoptic(probabilities, masks, is_thing, postprocessing.PostprocessingConfig())
    assert result.ids.device == GPU and len(result.segments) == 9
    assert asked == [(4, 9), (3, 9)]


def prompt_of(name: str) -> Prompt:
    """What is read on the processor, as it comes to the GPU."""
    if name == "segmentation":
        return segmentation.VocabularyPrompt(classes=torch.zeros(len(VOCABULARY.names) + 1, 32, device=GPU))
    if name == "referring":
        samples = tiny_batch().samples
        phrases = tuple(to_device(sample.phrases, GPU) for sample in samples if sample.phrases is not None)
        return referring.PhrasePrompt((), phrases, tuple(torch.zeros(len(each.texts), 32, device=GPU) for each in phrases))
    raise AssertionError(name)


@pytest.mark.parametrize("name", ["segmentation", "referring"])
def test_losses_of_matched_regions_wait_for_nothing(name: str, pretended: XDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (segmentation, referring):
        monkeypatch.setattr(module, "match", fixed)
    model, shown, (task,) = pretended.train(), batch(), tiny_tasks().build([name])
    features = model.encode(shown.images)
    words = replace(captioning.caption_tokens(model, texts(2)), name="word")
    groups = (model.decoder.grounding_queries(2), words) if name == "referring" else ()
    layers = model.decode(features, groups)[::-1]
    totals = {"segmentation/masks": 4.0, "segmentation/class weight": 4.0}
    totals |= {"referring/phrases": 4.0, "referring/images": 2.0, "referring/bare": 0.0}
    terms = task.loss(model, features, layers, prompt_of(name), shown, StepContext(totals))
    assert {term.device for term in terms.values()} == {GPU} and all(term.requires_grad for term in terms.values())
