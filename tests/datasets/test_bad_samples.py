"""Samples that cannot be read, and samples that are strange but right: what reaches training, and what is said."""

from __future__ import annotations

import itertools
import json
import logging
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.bad import BadSamples
from datasets.loader import train_loader
from datasets.streams import StreamConfig
from tests.datasets.packed import image, noise, rows, write_arrow
from tests.tiny import tiny_model, tiny_tasks
from xdecoder.config import parse
from xdecoder.types import Batch, Sample

pytestmark = pytest.mark.slow

STRETCH = {"name": "stretch", "size": 8}
CORPUS = {"name": "corpus", "reader": "arrow", "files": ["a.arrow"]}


def _stream(dataset: Any, **fields: Any) -> StreamConfig:
    settings = {"dataset": dataset, "tasks": ["captioning"], "batch_size": 10, "transform": STRETCH}
    return parse(StreamConfig, settings | fields)


def _samples(batches: Any, count: int) -> list[Sample]:
    return [sample for batch in itertools.islice(batches, count) for sample in batch.samples]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """200 pairs, of which 1 % are broken: one is noise, one has no caption."""
    pytest.importorskip("pyarrow", reason="Arrow files need pyarrow")
    content = rows(200)
    content[17]["image"] = noise(500)
    content[150]["caption"] = []
    write_arrow(tmp_path / "a.arrow", content)
    return tmp_path


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_samples_are_replaced_counted_and_named_once(corpus: Path, workers: int, caplog: pytest.LogCaptureFixture) -> None:
    bad = BadSamples(limit=2)
    with caplog.at_level(logging.WARNING):
        samples = _samples(train_loader(_stream(CORPUS), corpus, workers=workers, bad=bad), 60)
    assert bad.count == 2 and len(samples) == 600
    said = sorted(record.getMessage() for record in caplog.records)
    assert len(said) == 2
    assert said[0].startswith("skipped a sample: ") and "a.arrow: row 150 has no caption" in said[0]
    assert "a.arrow: row 17: the picture is damaged" in said[1] and "\n" not in said[1]
    seen = Counter(sample.id for sample in samples)
    assert set(seen) == set(range(200)) - {17, 150} and min(seen.values()) == 3
    assert sum(count - 3 for count in seen.values()) == 6, "others came in their place"


def test_replacements_are_the_same_after_an_interruption(corpus: Path) -> None:
    def ids(**settings: Any) -> list[Any]:
        return [s.id for s in _samples(train_loader(_stream(CORPUS), corpus, bad=BadSamples(2), **settings), 30)]

    assert ids()[100:] == ids(start=10)[:200]
    halves = [ids(rank=rank, world_size=2) for rank in range(2)]
    assert ids() == [one for pair in zip(*halves, strict=True) for one in pair]


def test_too_many_stop(corpus: Path) -> None:
    sentence = r"more than 1 samples cannot be read \(data.max_bad_samples\), the last: .*row "
    with pytest.raises(ValueError, match=sentence) as caught:
        _samples(train_loader(_stream(CORPUS), corpus, bad=BadSamples(1)), 20)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^[^ ]*a\.arrow: row (17|150)"):
        _samples(train_loader(_stream(CORPUS), corpus), 20)


def test_a_corpus_of_nothing_but_noise_ends(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="Arrow files need pyarrow")
    write_arrow(tmp_path / "a.arrow", [row | {"image": b"x"} for row in rows(30)])
    with pytest.raises(ValueError, match="the picture is damaged"):
        next(train_loader(_stream(CORPUS), tmp_path, bad=BadSamples(1000)))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_any_damage_to_a_picture_is_one_sentence(tmp_path: Path, format: str) -> None:
    """Bytes changed, cut off and doubled at random: a picture or a ValueError, never anything else."""
    from datasets.readers.images import read_image
    from datasets.records import Encoded, Record

    rng = random.Random(5)
    whole = image(300, (40, 60), format)
    sentences = []
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.3:
            del data[rng.randrange(1, len(data)) :]
        try:
            read_image(Record(1, Encoded(bytes(data), "file: row 1")))
        except ValueError as error:
            sentences.append(str(error))
    assert len(sentences) > 20
    assert all(sentence.startswith("file: row 1") and "\n" not in sentence for sentence in sentences)


def test_ten_thousand_pairs_three_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """3 epochs on 2 processes with 2 workers each, interrupted twice: every sample exactly 3 times."""
    pytest.importorskip("pyarrow", reason="Arrow files need pyarrow")
    content = [{"image": b"not decoded", "caption": [str(n)], "image_id": n} for n in range(10_000)]
    write_arrow(tmp_path / "a.arrow", content, batch=1000)
    monkeypatch.setattr("datasets.dataset.read_image", lambda record: np.zeros((4, 4, 3), dtype=np.uint8))
    stream = _stream(CORPUS, batch_size=250, transform={"name": "stretch", "size": 4})
    seen: Counter[int | str] = Counter()
    for rank in range(2):
        start = 0
        for end in (37, 81, 120):  # the process ends there and another one begins
            batches = train_loader(stream, tmp_path, rank=rank, world_size=2, workers=2, start=start)
            for batch in itertools.islice(batches, end - start):
                assert len(batch) == 125
                seen.update(sample.id for sample in batch.samples)
            batches.close()  # type: ignore[attr-defined]
            start = end
    assert seen == dict.fromkeys(range(10_000), 3)


def _panoptic(root: Path, ids: dict[str, np.ndarray], captions: dict[str, str]) -> dict[str, Any]:
    """A COCO panoptic set of pictures whose annotations are the given id maps."""
    (root / "images").mkdir()
    (root / "maps").mkdir()
    images, annotations, said = [], [], []
    for number, (name, map_) in enumerate(ids.items()):
        Image.fromarray(np.full((*map_.shape, 3), 90, dtype=np.uint8)).save(root / f"images/{name}.jpg")
        Image.fromarray(np.stack([map_ % 256, map_ // 256, map_ * 0], axis=-1).astype(np.uint8)).save(root / f"maps/{name}.png")
        images.append({"id": number, "file_name": f"{name}.jpg", "height": map_.shape[0], "width": map_.shape[1]})
        infos = [{"id": int(i), "category_id": int(i) % 3} for i in np.unique(map_) if i]
        annotations.append({"image_id": number, "file_name": f"{name}.png", "segments_info": infos})
        said.append({"image_id": number, "caption": captions[name]})
    categories = [{"id": i, "name": name, "isthing": 1} for i, name in enumerate(("cat", "dog", "sky"))]
    (root / "p.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    (root / "c.json").write_text(json.dumps({"annotations": said}))
    files = {"images": "images", "panoptic": "p.json", "panoptic_images": "maps", "captions": "c.json"}
    return {"name": "odd", "reader": "coco", **files}


def test_strange_samples_train_through(tmp_path: Path) -> None:
    """A picture without a region, one with 300 of them, a caption of 500 words."""
    many = np.repeat(np.repeat(np.arange(1, 301).reshape(15, 20), 4, axis=0), 4, axis=1)
    odd = {"empty": np.zeros((60, 80), dtype=np.int64), "many": many, "plain": np.full((60, 80), 7)}
    spec = _panoptic(tmp_path, odd, {name: "a dog on a carpet " * (100 if name == "many" else 1) for name in odd})
    transform = {"name": "lsj", "size": 64, "min_scale": 1.0, "max_scale": 1.0}
    stream = _stream(spec, tasks=["segmentation", "referring", "captioning", "retrieval"], batch_size=3, transform=transform)
    batch = next(train_loader(stream, tmp_path))
    segments = {sample.id: sample.segments for sample in batch.samples}
    assert [len(segments[number].labels) for number in range(3)] == [0, 300, 1]  # type: ignore[union-attr]
    assert segments[0].masks.shape == (0, 64, 64)  # type: ignore[union-attr]
    assert torch.equal(segments[1].masks.sum(0), (segments[1].masks.any(0)).long())  # type: ignore[union-attr]
    model = tiny_model().train()
    built = tiny_tasks().build(("segmentation", "referring", "captioning", "retrieval"))
    for samples in (batch.samples, batch.samples[:1], tuple(s for s in batch.samples if s.id == 0)):
        model.zero_grad()
        terms = model.losses(built, Batch(samples, batch.vocabulary, batch.source))
        total = torch.stack(list(terms.values())).sum()
        total.backward()
        assert bool(total.isfinite()) and "segmentation/class/layer0" in terms
        assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
