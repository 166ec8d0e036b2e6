"""Many class names: early rejection of classes, and texts that are read few at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_batch, tiny_model
from xdecoder.config import ConfigError
from xdecoder.language import encoder as language
from xdecoder.model import XDecoder
from xdecoder.tasks.segmentation import BACKGROUND, EarlyRejection, SegmentationConfig
from xdecoder.types import Batch, SegmentationResult, Vocabulary

MANY = tuple(f"thing number {i}" for i in range(40))


def batch() -> Batch:
    return replace(tiny_batch(), vocabulary=Vocabulary(MANY, (True,) * 20 + (False,) * 20))


@torch.inference_mode()
def segment(model: XDecoder, **settings: object) -> list[SegmentationResult]:
    task = SegmentationConfig.model_validate(
        {"templates": "none", "postprocessing": {"object_threshold": 0.0}, **settings}
    ).build()
    return list(model.predict([task], batch())["segmentation"])


def parts(result: SegmentationResult) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    assert result.semantic is not None and result.instances is not None and result.panoptic is not None
    labels = torch.tensor([segment.label for segment in result.panoptic.segments], dtype=torch.int64)
    return result.semantic, result.instances.labels, labels


@torch.inference_mode()
def chosen(model: XDecoder, image: int, layer: int, keep: int) -> set[int]:
    """The classes that an unhurried reading of the rule keeps."""
    classes = model.language.vocabulary(MANY, "none")
    rows = model.decode(model.encode(batch().images))[layer].object_and_image.semantic[image]
    found = set()
    for row in rows:
        cosines = torch.nn.functional.cosine_similarity(row[None], classes)
        found |= set(cosines.argsort(descending=True)[:keep].tolist())
    return found


@pytest.mark.parametrize(("layer", "keep"), [(0, 1), (2, 3)])
def test_only_kept_classes_are_answered_and_labels_are_those_of_the_whole_list(layer: int, keep: int) -> None:
    model = tiny_model()
    results = segment(model, early_rejection={"layer": layer, "keep": keep})
    for image, result in enumerate(results):
        kept = chosen(model, image, layer, keep)
        assert len(kept) < len(MANY)
        for labels in parts(result):
            assert set(labels.unique().tolist()) <= kept
        assert result.instances is not None and (result.instances.labels < 20).all(), "stuff is never an instance"


def test_keeping_all_is_no_rejection() -> None:
    model = tiny_model()
    plain, kept = segment(model), segment(model, early_rejection={"layer": 1, "keep": 40})
    for a, b in zip(plain, kept, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(parts(a), parts(b), strict=True))


def test_a_layer_that_is_not_there() -> None:
    key = "tasks.segmentation.early_rejection.layer is 5, but the decoder has 4 layers"
    with pytest.raises(ConfigError, match=key):
        segment(tiny_model(), early_rejection={"layer": 5})
    assert len(segment(tiny_model(), early_rejection={"layer": 4})) == 2
    with pytest.raises(ValueError):
        EarlyRejection(keep=0)


def test_without_background_its_share_goes_to_the_classes() -> None:
    model = tiny_model()
    features = model.encode(batch().images)
    with_it, without = (
        model.evidence(features, ["cat", "sky"], SegmentationConfig(background=background)).probabilities
        for background in (True, False)
    )
    assert (with_it[:, -1] > 0).all() and not without[:, -1].any()
    assert torch.allclose(without[:, :-1], with_it[:, :-1] / (1 - with_it[:, -1:]), atol=1e-5)


def test_names_are_read_few_at_a_time_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    names = (*(f"name {i} of many" for i in range(600)), BACKGROUND)
    sizes: list[int] = []

    def watch(name: str) -> None:
        read = getattr(language.LanguageEncoder, name)

        def watched(self: language.LanguageEncoder, ids: torch.Tensor) -> object:
            sizes.append(len(ids))
            return read(self, ids)

        monkeypatch.setattr(language.LanguageEncoder, name, watched)

    watch("encode_ids")
    watch("encode_ends")
    with torch.no_grad():
        vectors = model.language.vocabulary(names, "none")
        assert sum(sizes) == 601 and max(sizes) <= 256
        assert torch.equal(model.language.vocabulary(names[:50], "none"), vectors[:50]) and sum(sizes) == 601
        whole = torch.nn.functional.normalize(model.language(names).vectors, dim=-1)
        assert torch.allclose(vectors, whole, atol=1e-5)
    sizes.clear()
    learnt = model.language.vocabulary(names, "none")
    assert learnt.requires_grad and max(sizes) <= 256 and torch.allclose(learnt, vectors, atol=1e-5)
    sizes.clear()
    model.language.vocabulary(names[:5], "ensemble")
    assert sum(sizes) == 5 * 81 and max(sizes) <= 256
    assert not torch.allclose(model.language.vocabulary(names[:5], "ensemble"), vectors[:5], atol=1e-3)
