"""Order, resumption, sharing among processes, and what samples carry."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.loader import evaluation_loader, train_loader
from datasets.prepare.shapes import prepare
from datasets.streams import DataConfig, EvaluationConfig, StreamConfig
from xdecoder.config import ConfigError, parse
from xdecoder.types import Batch

pytestmark = pytest.mark.slow

KIT = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
needs_kit = pytest.mark.skipif(not KIT.is_dir(), reason="the real-data kit is not at ../shared/data")
JITTER = {"name": "lsj", "size": 64, "min_scale": 0.5, "max_scale": 2.0}
EDGE = {"name": "shortest_edge", "size": 64, "max_size": 64}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    prepare(root, train=23, val=7, novel=2, seed=5)
    return root


def _stream(**changes: Any) -> StreamConfig:
    settings = {"dataset": "shapes_train", "tasks": ["segmentation", "referring"], "batch_size": 4, "transform": JITTER}
    return parse(StreamConfig, settings | changes)


def _entry(**changes: Any) -> EvaluationConfig:
    return parse(EvaluationConfig, {"dataset": "shapes_val", "tasks": ["segmentation"], "transform": EDGE} | changes)


def _same(first: Batch, second: Batch) -> bool:
    """Whether two batches agree in every tensor and text."""
    for a, b in zip(first.samples, second.samples, strict=True):
        if a.id != b.id or not torch.equal(a.image, b.image) or a.captions != b.captions:
            return False
        if a.segments is not None and b.segments is not None and not torch.equal(a.segments.masks, b.segments.masks):
            return False
        if a.phrases is not None and b.phrases is not None and a.phrases.texts != b.phrases.texts:
            return False
    return True


def _ids(batches: Any, count: int) -> list[int | str]:
    return [sample.id for batch in itertools.islice(batches, count) for sample in batch.samples]


def test_resumed_stream_goes_on_exactly(root: Path) -> None:
    whole = list(itertools.islice(train_loader(_stream(), root, seed=3), 9))
    rest = train_loader(_stream(), root, seed=3, start=6)
    assert all(_same(a, b) for a, b in zip(whole[6:], itertools.islice(rest, 3), strict=True))
    assert not _same(whole[0], next(train_loader(_stream(), root, seed=4)))


@pytest.mark.parametrize("cache", [False, True])
def test_workers_and_cache_change_nothing(root: Path, cache: bool) -> None:
    plain = itertools.islice(train_loader(_stream(), root), 7)
    worked = itertools.islice(train_loader(_stream(cache=cache), root, workers=1 if cache else 0), 7)
    assert all(_same(a, b) for a, b in zip(plain, worked, strict=True))


def test_views_differ_between_epochs(root: Path) -> None:
    seen: dict[int | str, list[torch.Tensor]] = {}
    for batch in itertools.islice(train_loader(_stream(limit=4), root), 2):
        for sample in batch.samples:
            seen.setdefault(sample.id, []).append(sample.image)
    assert len(seen) == 4 and all(not torch.equal(*images) for images in seen.values())


def test_streams_of_one_set_go_different_ways(root: Path) -> None:
    other = _stream(tasks=["captioning", "retrieval"], transform={"name": "stretch", "size": 32})
    assert _ids(train_loader(_stream(), root), 5) != _ids(train_loader(other, root), 5)


def test_training_sample(root: Path) -> None:
    batch = next(train_loader(_stream(max_phrases=2, batch_size=16), root))
    assert batch.source == "shapes_train" and batch.vocabulary is not None
    for sample in batch.samples:
        assert sample.image.dtype == torch.uint8 and sample.image.shape == (3, 64, 64) and sample.output_size == (128, 128)
        assert sample.segments is not None and sample.phrases is not None
        assert len(sample.captions) == len(sample.nouns) == 1, "what the segmentation task contrasts queries with"
        masks = sample.segments.masks
        assert masks.dtype == torch.bool and masks.shape[1:] == (64, 64) and bool(masks.flatten(1).any(1).all())
        assert len(sample.segments.labels) == len(masks) and not sample.segments.crowd.any()
        assert bool((masks.sum(0) <= 1).all())
        assert len(sample.phrases.texts) == len(sample.phrases.masks) <= 2
        assert bool(sample.phrases.masks.flatten(1).any(1).all())
        for text, mask in zip(sample.phrases.texts, sample.phrases.masks, strict=True):
            shape = next(word for word in text.split() if word in batch.vocabulary.names)
            matching = masks[sample.segments.labels == batch.vocabulary.names.index(shape)]
            assert any(torch.equal(mask, other) for other in matching), "a phrase's mask moves with its picture"


def test_captions_only_where_asked(root: Path) -> None:
    sample = next(train_loader(_stream(tasks=["retrieval"]), root)).samples[0]
    assert sample.segments is None and sample.phrases is None and len(sample.captions) == 1
    assert next(train_loader(_stream(tasks=["referring"]), root)).samples[0].captions == ()
    read = next(iter(evaluation_loader(_entry(tasks=["retrieval"]), root))).samples[0]
    assert len(read.captions) >= 3


def test_captions_take_turns(root: Path) -> None:
    """A picture shows another caption every epoch until it has shown them all."""
    stream = _stream(tasks=["retrieval"], transform={"name": "stretch", "size": 16}, limit=2, batch_size=2)
    every = {
        sample.id: sample.captions
        for batch in evaluation_loader(_entry(dataset="shapes_train", tasks=["retrieval"], limit=2), root)
        for sample in batch.samples
    }
    said: dict[int | str, list[str]] = {}
    for batch in itertools.islice(train_loader(stream, root), 12):
        for sample in batch.samples:
            said.setdefault(sample.id, []).extend(sample.captions)
    for key, captions in every.items():
        assert len(captions) >= 3
        for epoch in range(0, 12 - len(captions), len(captions)):
            assert sorted(said[key][epoch : epoch + len(captions)]) == sorted(captions)


def test_several_captions_at_a_time(root: Path) -> None:
    """The next ones in the next epoch, in the same order in which they would come one by one."""
    settings = {"tasks": ["captioning"], "transform": {"name": "stretch", "size": 16}, "limit": 1, "batch_size": 1}
    alone = [batch.samples[0].captions[0] for batch in itertools.islice(train_loader(_stream(**settings), root), 6)]
    batches = list(itertools.islice(train_loader(_stream(**settings, captions=3), root), 2))
    assert [caption for batch in batches for caption in batch.samples[0].captions] == alone
    assert all(batch.captions == 3 for batch in batches)


def test_class_names_stand_in_for_phrases(root: Path) -> None:
    spec = {
        "name": "plain",
        "reader": "coco",
        "images": "shapes/images/train",
        "panoptic": "shapes/annotations/panoptic_train.json",
        "panoptic_images": "shapes/annotations/panoptic_train",
    }
    batch = next(train_loader(_stream(dataset=spec, max_phrases=3, batch_size=20), root))
    counts = set()
    for sample in batch.samples:
        assert sample.phrases is not None and sample.segments is not None and batch.vocabulary is not None
        assert not sample.phrases.written and len(sample.phrases.meanings) == len(sample.phrases.texts)
        labels = [batch.vocabulary.names.index(name) for name in sample.phrases.meanings]
        counts.add(len(set(labels)))
        for label in set(labels):
            mine = [i for i, other in enumerate(labels) if other == label]
            assert torch.equal(sample.phrases.masks[mine], sample.segments.masks[sample.segments.labels == label])
            (text,) = {sample.phrases.texts[i] for i in mine}
            assert batch.vocabulary.names[label] in text, "one sentence for all regions of a class"
    assert counts == {1, 2, 3}, "the number of classes is drawn"


def test_coco_to_pretrain_on(tmp_path: Path) -> None:
    """Regions, captions and phrases from the three filtered files; written phrases come before class names; seeds for all."""
    prepare(tmp_path / "made", train=6, val=1, novel=1)
    made, coco = tmp_path / "made/shapes", tmp_path / "coco"
    files = {
        "panoptic": "panoptic_train2017_filtrefgumdval_filtvlp",
        "captions": "captions_train2017_filtrefgumdval_filtvlp",
        "phrases": "grounding_train2017_filtrefgumdval_filtvlp",
    }
    (coco / "annotations").mkdir(parents=True)
    (coco / "train2017").symlink_to(made / "images/train")
    (coco / "panoptic_train2017").symlink_to(made / "annotations/panoptic_train")
    for kind, file in files.items():
        (coco / f"annotations/{file}.json").write_bytes((made / f"annotations/{kind}_train.json").read_bytes())
    batch = next(train_loader(_stream(dataset="coco_2017_train_panoptic_filtall", batch_size=6), tmp_path))
    assert len({sample.seed for sample in batch.samples}) == 6
    for sample in batch.samples:
        assert sample.segments is not None and sample.phrases is not None and sample.phrases.written
        assert 1 <= len(sample.phrases.texts) <= 4 and len(sample.captions) == 1 and sample.nouns != ()


def test_evaluation_keeps_labels_at_the_original_size(root: Path) -> None:
    loader = evaluation_loader(_entry(tasks=["segmentation", "referring", "captioning"], batch_size=3), root)
    assert len(loader) == 3 and loader.images == 7
    samples = [sample for batch in loader for sample in batch.samples]
    assert [sample.id for sample in samples] == list(range(1, 8))
    for sample in samples:
        assert sample.image.shape == (3, 64, 64) and sample.output_size == (128, 128)
        assert sample.segments is not None and sample.segments.masks.shape[1:] == (128, 128)
        assert sample.phrases is not None and sample.phrases.masks.shape == (len(sample.phrases.texts), 128, 128)
        assert len(sample.captions) >= 3


def test_evaluation_shares_cover_once(root: Path) -> None:
    shares = [_ids(evaluation_loader(_entry(), root, rank=rank, world_size=3), 99) for rank in range(3)]
    assert [len(share) for share in shares] == [3, 2, 2]
    assert list(itertools.chain(*shares)) == list(range(1, 8))
    assert _ids(evaluation_loader(_entry(limit=2), root), 99) == [1, 2]


@pytest.mark.parametrize("workers", [0, 1])
def test_broken_picture_is_one_sentence(tmp_path: Path, workers: int) -> None:
    prepare(tmp_path, train=2, val=2, novel=1)
    (tmp_path / "shapes/images/val/000002.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ValueError, match=r"000002.jpg: the picture is damaged") as caught:
        list(evaluation_loader(_entry(), tmp_path, workers=workers))
    assert "\n" not in str(caught.value) and "worker" not in str(caught.value)


def test_wrong_settings(root: Path) -> None:
    with pytest.raises(ValueError, match="batch_size 4 is not a multiple of the 3 processes"):
        train_loader(_stream(), root, world_size=3)
    with pytest.raises(ValueError, match="data set 'camvid_train' has nothing for task 'captioning'"):
        train_loader(_stream(dataset="camvid_train", tasks=["captioning"]), root)
    with pytest.raises(ConfigError, match="tasks"):
        _stream(tasks=["segmenting"])
    with pytest.raises(ConfigError, match="did you mean 'workers'"):
        parse(DataConfig, {"worker": 2})


@needs_kit
def test_real_pictures() -> None:
    """Crowds are dropped in training and kept in measuring; pictures without captions are left out of a caption stream."""
    kept = list(evaluation_loader(_entry(dataset="coco_kit_val"), KIT))
    assert sum(int(sample.segments.crowd.sum()) for batch in kept for sample in batch.samples if sample.segments) > 0
    stream = _stream(dataset="coco_kit_val", tasks=["segmentation"], batch_size=100)
    batch = next(train_loader(stream, KIT))
    assert len({sample.id for sample in batch.samples}) == 100
    assert not any(sample.segments is None or bool(sample.segments.crowd.any()) for sample in batch.samples)
    refs = next(iter(evaluation_loader(_entry(dataset="coco_refs", tasks=["referring"]), KIT))).samples[0]
    assert refs.phrases is not None and refs.phrases.masks.shape[0] == len(refs.phrases.texts) > 1 and refs.segments is None
