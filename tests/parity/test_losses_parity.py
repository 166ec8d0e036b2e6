"""Our training losses against those of the published network, term by term."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from xdecoder.losses.matching import Matches, match
from xdecoder.model import XDecoder, XDecoderConfig
from xdecoder.published.names import convert, to_ours
from xdecoder.tasks import TasksConfig
from xdecoder.tasks.segmentation import SegmentationConfig
from xdecoder.types import Batch, Phrases, Sample, Segments, Vocabulary

OURS = {
    "mask_ce": ("segmentation/class",),
    "mask_bce": ("segmentation/mask",),
    "mask_dice": ("segmentation/dice",),
    "caption": ("segmentation/noun",),
    "grounding_ce": ("referring/class",),
    "grounding_bce": ("referring/mask",),
    "grounding_dice": ("referring/dice",),
    "captioning": ("captioning/word",),
    "retrieval_decoder": ("retrieval/pair", "retrieval/word"),
}


@pytest.fixture(scope="module")
def model(oracle: Path, seeded: ModuleType) -> XDecoder:
    names = json.loads((oracle / "names/focalt_state_dict.json").read_text())
    model = XDecoder(XDecoderConfig(published_quirks=True))
    model.load_state_dict(convert(seeded.seeded_state_dict(names)))
    return model.eval()


@pytest.fixture(scope="module")
def recorded(oracle: Path) -> dict[str, Any]:
    return torch.load(oracle / "values/focalt_train.pt", weights_only=True)


@pytest.fixture(scope="module")
def inputs(oracle: Path) -> dict[str, Any]:
    return torch.load(oracle / "values/inputs.pt", weights_only=True)


@pytest.fixture(scope="module")
def vocabulary(oracle: Path) -> Vocabulary:
    names = torch.load(oracle / "values/focalt_text.pt", weights_only=True)["coco134_names"][:133]
    return Vocabulary(tuple(names), tuple(i < 80 for i in range(133)))


def segmentation_batch(inputs: dict[str, Any], vocabulary: Vocabulary, texts: Sequence[Any]) -> Batch:
    """The recorded pictures, each with the caption that was drawn for it."""
    samples = []
    for number, image in enumerate(inputs["coco"]):
        drawn = next(i for i, caption in enumerate(image["captions"]) if caption in texts)
        asked = image["grounding"]
        samples.append(
            Sample(
                number,
                image["image"],
                tuple(image["image"].shape[1:]),
                Segments(image["gt_masks"], image["gt_classes"], torch.zeros(len(image["gt_classes"]), dtype=torch.bool)),
                Phrases(tuple(asked["texts"]), asked["masks"].bool(), asked["mode"] == "text", tuple(map(str, asked["hash"]))),
                (image["captions"][drawn],),
                (tuple(image["captions_noun"][drawn]),),
            )
        )
    return Batch(tuple(samples), vocabulary, "recorded pictures")


Rand = Callable[..., Tensor]
COUNTS = {"default": (5, 3), "grounding": (3, 2)}  # masks per picture


def by_image(layers: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Points that were drawn layer by layer for all pictures, in our order: picture by picture, all layers of each."""
    images = zip(*(points.split(list(counts)) for points in layers), strict=True)
    return torch.cat([points for image in images for points in image])


def keyed(rand: Rand, keyed_rand: Rand) -> Rand:
    """`torch.rand` as a function of the shape alone."""

    def draw(*size: Any, **options: Any) -> Tensor:
        if "generator" in options:
            return rand(*size, **options)
        for counts in COUNTS.values():
            if size[0] > 1 and size[0] % sum(counts) == 0:
                return by_image([keyed_rand(sum(counts), *size[1:])] * (size[0] // sum(counts)), counts)
        return keyed_rand(*size)

    return draw


def replayed(shapes: Sequence[Sequence[int]]) -> Rand:
    """`torch.rand` that serves the points of the losses as they were drawn from the recorded seed."""
    generator, drawn = torch.Generator().manual_seed(1234), defaultdict(list)
    for shape in shapes:
        drawn[shape[0], shape[1]].append(torch.rand(*shape, generator=generator))

    def draw(*size: int, device: object) -> Tensor:
        counts = next(counts for counts in COUNTS.values() if size[0] % sum(counts) == 0)
        layers = drawn[sum(counts), size[1]]
        assert len(layers) * sum(counts) == size[0]
        return by_image(layers, counts)

    return draw


def recorded_matches(record: Sequence[Any], kind: str) -> Matches:
    """Picture by picture, layer by layer."""
    layers = [images for name, images in record if name == kind]
    rows = [
        torch.stack((torch.full_like(query, layer), torch.full_like(query, b), query, target))
        for b in range(2)
        for layer, images in enumerate(layers)
        for query, target in [images[b]]
    ]
    return Matches(*torch.cat(rows, dim=1))


@dataclass(frozen=True)
class Step:
    """The recorded training step, computed by us."""

    terms: dict[str, Tensor]
    matches: list[Matches]  # of segmentation and of referring


@pytest.fixture(scope="module")
def batches(inputs: dict[str, Any], vocabulary: Vocabulary, recorded: dict[str, Any]) -> tuple[Batch, Batch]:
    pairs = [Sample(i, pair["image"], (224, 224), captions=tuple(pair["captions"])) for i, pair in enumerate(inputs["vlp"])]
    return (
        segmentation_batch(inputs, vocabulary, recorded["text_log_seg_vlp"]),
        Batch(tuple(pairs), None, "recorded pairs"),
    )


def step(model: XDecoder, batches: tuple[Batch, Batch], texts: Sequence[Any], rand: Rand, find: Callable[..., Matches]) -> Step:
    """Both batches' losses with the recorded sentences, and with points and matches from `rand` and `find`."""
    matches: list[Matches] = []

    def remember(*args: Any) -> Matches:
        matches.append(find(*args))
        return matches[-1]

    sentences = iter([text for text in texts if isinstance(text, str) and not text[0].isupper()])
    tasks = TasksConfig(segmentation=SegmentationConfig(noun_weight=1.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", rand)
        for room in ("language.encoder", "tasks.segmentation"):
            patch.setattr(f"xdecoder.{room}.random_prompt", lambda name, generator=None: next(sentences))
        for room in ("segmentation", "referring"):
            patch.setattr(f"xdecoder.tasks.{room}.match", remember)
        terms = model.losses(tasks.build(["segmentation", "referring"]), batches[0])
        terms |= model.losses(tasks.build(["captioning", "retrieval"]), batches[1])
    return Step(terms, matches)


def assert_equal_terms(ours: dict[str, Tensor], theirs: dict[str, float]) -> None:
    ours, compared = dict(ours), {}
    for name, loss in theirs.items():
        published, layer = name.removeprefix("loss_").rsplit("_", 1)
        parts = ("retrieval/backbone",) if published == "retrieval_backbone" else [f"{x}/layer{layer}" for x in OURS[published]]
        compared[name] = sum(ours.pop(part).item() for part in parts) / loss
    assert not ours, "terms that the published network does not have"
    assert compared == {name: pytest.approx(1, abs=1e-4) for name in theirs}


@torch.no_grad()
def test_terms_and_matches(model: XDecoder, batches: tuple[Batch, Batch], recorded: dict[str, Any], seeded: ModuleType) -> None:
    rand, record = keyed(torch.rand, seeded.keyed_rand), recorded["keyed_rand_variant"]
    ours = step(model, batches, recorded["text_log_seg_vlp"], rand, match)
    for kind, found in zip(COUNTS, ours.matches, strict=True):
        assert pairs(found) == pairs(recorded_matches(record["matcher"], kind))
    assert_equal_terms(ours.terms, record["weighted"])
    assert sum(ours.terms.values()).item() == pytest.approx(record["total"], rel=1e-4)


def test_terms_and_gradients(model: XDecoder, batches: tuple[Batch, Batch], recorded: dict[str, Any]) -> None:
    """With the recorded seed. Matches are given: ours draw points once for all layers."""
    matches = iter([recorded_matches(recorded["matcher"], kind) for kind in COUNTS])
    rand = replayed(recorded["rand_shapes"])
    ours = step(model, batches, recorded["text_log_seg_vlp"], rand, lambda *args: next(matches))
    assert_equal_terms(ours.terms, recorded["weighted"])
    sum(ours.terms.values()).backward()
    gradients = {name: p.grad.norm().item() for name, p in model.named_parameters() if p.grad is not None}
    wanted = {to_ours(name): norm for name, norm in recorded["grad_norms"].items()}
    assert gradients == {name: pytest.approx(norm, rel=1e-3) for name, norm in wanted.items()}


def pairs(matches: Matches) -> set[tuple[int, ...]]:
    columns = (matches.layer, matches.image, matches.query, matches.target)
    return set(zip(*(column.tolist() for column in columns), strict=True))
