"""Captioned pictures out of Arrow, parquet and tar files: what is read, in bounded memory, and what is wrong with them."""

from __future__ import annotations

import itertools
import shutil
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from datasets.catalog import find
from datasets.loader import evaluation_loader, train_loader
from datasets.order import WINDOW
from datasets.readers import pairs, read, remote, tar
from datasets.readers.images import read_image
from datasets.records import Record
from datasets.spec import DatasetSpec
from datasets.streams import EvaluationConfig, StreamConfig
from tests.datasets.packed import (
    image,
    members,
    noise,
    number_of,
    rows,
    served,
    write_arrow,
    write_parquet,
    write_tar,
)
from xdecoder.config import ConfigError, parse
from xdecoder.types import Sample

pytest.importorskip("pyarrow", reason="Arrow and parquet files need pyarrow")

STRETCH = {"name": "stretch", "size": 8}
COUNT = 50


def _spec(reader: str, *files: str, **fields: Any) -> DatasetSpec:
    return parse(DatasetSpec, {"name": "corpus", "reader": reader, "files": files, **fields})


def _stream(spec: DatasetSpec | list[DatasetSpec], batch_size: int = 5, **fields: Any) -> StreamConfig:
    dataset = [each.model_dump() for each in spec] if isinstance(spec, list) else spec.model_dump()
    return parse(
        StreamConfig,
        {"dataset": dataset, "tasks": ["captioning"], "batch_size": batch_size, "transform": STRETCH} | fields,
    )


def _samples(batches: Any, count: int) -> list[Sample]:
    return [sample for batch in itertools.islice(batches, count) for sample in batch.samples]


def _write(root: Path, kind: str) -> DatasetSpec:
    """COUNT rows in three files."""
    content = rows(COUNT)
    parts = [content[:20], content[20:21], content[21:]]
    for number, part in enumerate(parts):
        if kind in ("arrow", "arrow stream"):
            write_arrow(root / f"c/part_{number}.arrow", part, stream=kind != "arrow")
        elif kind == "parquet":
            write_parquet(root / f"c/part_{number}.parquet", part)
        else:
            format = (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT)[number]
            prefix = "folder/" + "long" * 30 + "/" if number < 2 else "folder/"
            write_tar(root / f"c/part_{number}.tar", members(part, prefix, as_json=True), format)
    reader = kind.split()[0]
    return _spec(reader, "c/part_{0..1}." + reader, "c/*_2." + reader)


@pytest.mark.parametrize("kind", ["arrow", "arrow stream", "parquet", "tar"])
def test_same_records_from_every_format(tmp_path: Path, kind: str) -> None:
    source = read(_write(tmp_path, kind), tmp_path)
    assert len(source.records) == COUNT and source.vocabulary is None
    for number in (0, 19, 20, 21, COUNT - 1):
        record = source.records[number]
        assert record.id == number
        assert record.captions == tuple(rows(1, number)[0]["caption"])
        assert read_image(record)[0, 0].tolist() == [number, 0, 7]
    with pytest.raises(IndexError):
        source.records[COUNT]


@pytest.mark.parametrize(("kind", "workers"), [("arrow", 0), ("arrow", 2), ("parquet", 2), ("tar", 0)])
def test_epochs_of_every_format(tmp_path: Path, kind: str, workers: int) -> None:
    stream = _stream(_write(tmp_path, kind))
    shares = [_samples(train_loader(stream, tmp_path, rank=rank, world_size=5, workers=workers), 20) for rank in range(5)]
    seen = Counter(number_of(sample.image) for share in shares for sample in share)
    assert seen == dict.fromkeys(range(COUNT), 2)
    for sample in shares[0]:
        number = number_of(sample.image)
        assert sample.id == number and sample.captions[0] in rows(1, number)[0]["caption"]
        assert sample.image.shape == (3, 8, 8) and sample.output_size == (12, 16)


def test_evaluation_reads_in_order_with_all_captions(tmp_path: Path) -> None:
    entry = parse(
        EvaluationConfig,
        {
            "dataset": _write(tmp_path, "arrow").model_dump(),
            "tasks": ["retrieval"],
            "transform": STRETCH,
            "batch_size": 4,
        },
    )
    samples = [sample for batch in evaluation_loader(entry, tmp_path) for sample in batch.samples]
    assert [sample.id for sample in samples] == list(range(COUNT))
    assert [len(sample.captions) for sample in samples] == [1 + (number % 3 == 0) for number in range(COUNT)]


def test_other_columns_paths_and_mappings(tmp_path: Path) -> None:
    (tmp_path / "jpgs").mkdir()
    (tmp_path / "jpgs/a.png").write_bytes(image(3))
    write_parquet(tmp_path / "a.parquet", [{"file": "a.png", "TEXT": "one"}])
    record = read(_spec("parquet", "a.parquet", images="jpgs", image_column="file", caption_column="TEXT"), tmp_path).records[0]
    assert record.image == tmp_path / "jpgs/a.png" and record.captions == ("one",) and str(record.id).endswith("row 0")
    assert read_image(record).shape == (12, 16, 3)
    write_arrow(tmp_path / "b.arrow", [{"image": {"bytes": image(9), "path": None}, "text": "two", "image_id": 7}])
    record = read(_spec("arrow", "b.arrow", caption_column="text"), tmp_path).records[0]
    assert record.id == 7 and read_image(record)[0, 0, 0] == 9


def test_parquet_reads_each_row_group_once_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet

    loaded: Counter[int] = Counter()
    original = parquet.ParquetFile.read_row_group
    monkeypatch.setattr(
        parquet.ParquetFile, "read_row_group", lambda self, i, **kw: loaded.update([i]) or original(self, i, **kw)
    )
    write_parquet(tmp_path / "a.parquet", rows(60), group=4)
    stream = _stream(_spec("parquet", "a.parquet"), batch_size=6)
    batches = train_loader(stream, tmp_path)
    for epoch in (1, 2):
        assert len({sample.id for sample in _samples(batches, 10)}) == 60
        assert sum(loaded.values()) <= 15 * epoch and len(loaded) == 15
    assert len({sample.id for sample in _samples(train_loader(stream, tmp_path), 2)}) == 12
    assert WINDOW < 15


def test_an_indexed_shard_is_not_read_through_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = _write(tmp_path, "tar")
    first = [record.captions for record in read(spec, tmp_path).records]

    def fail(*args: Any) -> Any:
        raise AssertionError("the index was learnt again")

    with monkeypatch.context() as patch:
        patch.setattr(tar, "_learn", fail)
        assert [record.captions for record in read(spec, tmp_path).records] == first
        write_tar(tmp_path / "c/part_1.tar", members(rows(2, 90)))
        with pytest.raises(AssertionError):
            read(spec, tmp_path)
    assert len(read(spec, tmp_path).records) == COUNT + 1, "a shard that has changed is indexed anew"
    for kept in (tmp_path / ".index").glob("*.npz"):
        kept.write_bytes(noise(300))
    assert len(read(spec, tmp_path).records) == COUNT + 1, "a damaged index is made anew"


def test_pictures_without_a_text_and_texts_without_a_picture(tmp_path: Path) -> None:
    content = [("a.jpg", image(1, format="JPEG")), ("a.txt", b" a dog \n"), ("b.json", b"{}"), ("c.png", image(2))]
    write_tar(tmp_path / "a.tar", content)
    records = read(_spec("tar", "a.tar"), tmp_path).records
    assert len(records) == 2 and records[0].captions == ("a dog",) and records[0].id == "a"
    with pytest.raises(ValueError, match=r"a\.tar: c has no caption$"):
        records[1]


def test_remote_shards(tmp_path: Path) -> None:
    """The server fails a few times on the way; several processes' workers read; a second start needs no index."""
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    for number in range(3):
        write_tar(tmp_path / f"there/s{number}.tar", members(rows(8, 8 * number)))
    with served(tmp_path / "there") as address:
        stream = _stream(_spec("tar", address + "/s{0..2}.tar"), batch_size=4)
        shares = [
            _samples(train_loader(stream, tmp_path / "here", rank=rank, world_size=2, workers=rank), 12) for rank in range(2)
        ]
    seen = Counter(number_of(sample.image) for share in shares for sample in share)
    assert seen == dict.fromkeys(range(24), 2)
    assert all(sample.captions == (f"picture {number_of(sample.image)}",) for sample in shares[1])
    assert len(list((tmp_path / "here/.index").glob("*.npz"))) == 3


def test_a_server_that_fails_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote.time, "sleep", lambda seconds: None)
    write_tar(tmp_path / "s.tar", members(rows(8)))
    with served(tmp_path, fails=3) as address:
        records = read(_spec("tar", f"{address}/s.tar"), tmp_path).records
        assert [record.id for record in records] == list(range(8))
    with served(tmp_path, fails=99) as address, pytest.raises(ValueError, match=r"s\.tar: cannot be read \(") as caught:
        read(_spec("tar", f"{address}/s.tar"), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_server_that_sends_no_parts(tmp_path: Path) -> None:
    write_tar(tmp_path / "s.tar", members(rows(2)))
    with served(tmp_path, parts=False) as address:
        records = read(_spec("tar", f"{address}/s.tar"), tmp_path).records
        with pytest.raises(ValueError, match="does not send parts of files, which reading samples needs"):
            records[0]


@pytest.mark.parametrize("reader", ["arrow", "parquet", "tar"])
@pytest.mark.parametrize("damage", ["cut", "noise", "page", "empty"])
def test_damaged_files(tmp_path: Path, reader: str, damage: str) -> None:
    path = tmp_path / f"a.{reader}"
    {"arrow": write_arrow, "parquet": write_parquet}.get(reader, lambda p, c: write_tar(p, members(c)))(path, rows(20))
    whole = path.read_bytes()
    damaged = {"cut": whole[: len(whole) * 3 // 5], "noise": noise(5000), "page": b"<html>" * 200, "empty": b""}[damage]
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=rf"a\.{reader}: is not a complete.* file \(.*\); fetch it again") as caught:
        read(_spec(reader, path.name), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_damaged_row_group_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", rows(20), group=10)
    whole = bytearray((tmp_path / "a.parquet").read_bytes())
    whole[4 : len(whole) // 2] = noise(len(whole) // 2 - 4)
    (tmp_path / "a.parquet").write_bytes(whole)
    records = read(_spec("parquet", "a.parquet"), tmp_path).records
    with pytest.raises(ValueError, match=r"a\.parquet: row group 0 cannot be read"):
        records[3]


def test_wrong_settings(tmp_path: Path) -> None:
    write_arrow(tmp_path / "a.arrow", rows(3))
    with pytest.raises(ValueError, match=r"a\.arrow: has no column 'text', only image, .*set the data set's caption_column"):
        read(_spec("arrow", "a.arrow", caption_column="text"), tmp_path)
    for pattern in ("b.arrow", "b*.arrow", "a_{0..3}.arrow"):
        with pytest.raises(ValueError, match="no such file; data set 'corpus' has its pictures there"):
            read(_spec("arrow", pattern), tmp_path)
    with pytest.raises(ValueError, match="is an address, which only reader 'tar' can read"):
        read(_spec("arrow", "https://example.org/a.arrow"), tmp_path)
    with pytest.raises(ConfigError, match="key 'files': tuple should have at least 1 item"):
        _spec("arrow")
    with pytest.raises(ConfigError, match="key 'images' is required"):
        parse(DatasetSpec, {"name": "a", "reader": "coco", "captions": "c.json"})
    with pytest.raises(ValueError, match="has nothing for task 'segmentation'"):
        train_loader(_stream(_spec("arrow", "a.arrow"), tasks=["segmentation"]), tmp_path)
    with pytest.raises(ValueError, match=r"b\.tar: holds no sample with a picture"):
        write_tar(tmp_path / "b.tar", [("a.txt", b"a")])
        read(_spec("tar", "b.tar"), tmp_path)


def test_patterns() -> None:
    assert list(pairs.expand("a/{08..11}.tar")) == ["a/08.tar", "a/09.tar", "a/10.tar", "a/11.tar"]
    assert list(pairs.expand("{x,y}{1..2}")) == ["x1", "x2", "y1", "y2"]
    assert list(pairs.expand("plain")) == ["plain"]


def test_the_published_corpus() -> None:
    spec = find("vlp_train")
    names = [name for written in spec.files for name in pairs.expand(written)]
    assert len(names) == len(set(names)) == 44 and not any("karpathy_test" in name for name in names)
    parts = [name for part in ("coco", "vg", "sbu", "cc3m") for name in find(f"vlp_{part}").files]
    assert tuple(parts) == spec.files and spec.provides() == {"captions", "texts"}


def test_a_mixture_of_formats(tmp_path: Path) -> None:
    """One epoch of sets in three formats holds each picture once; ids tell where each is from."""
    shutil.rmtree(tmp_path, ignore_errors=True)
    write_arrow(tmp_path / "a.arrow", rows(10))
    write_parquet(tmp_path / "b.parquet", rows(20, 10))
    write_tar(tmp_path / "c.tar", members(rows(6, 30)))
    specs = [
        _spec(reader, f"{letter}.{reader}", name=letter) for letter, reader in (("a", "arrow"), ("b", "parquet"), ("c", "tar"))
    ]
    batches = train_loader(_stream(specs, batch_size=6), tmp_path)
    first = next(batches)
    assert first.source == "a+b+c"
    samples = [*first.samples, *_samples(batches, 11)]
    seen = Counter(f"{'abc'[(n >= 10) + (n >= 30)]}/{n}" for n in (number_of(sample.image) for sample in samples))
    assert seen == Counter(str(sample.id) for sample in samples) and set(seen.values()) == {2} and len(seen) == 36
    uneven = train_loader(_stream(specs, batch_size=10, weights=[8, 1, 1]), tmp_path)
    letters = Counter(str(sample.id)[0] for sample in _samples(uneven, 30))
    assert letters["a"] > 200 and letters["b"] > 10 and letters["c"] > 10


def test_sets_of_other_classes_mix_only_where_nobody_looks_at_classes(tmp_path: Path) -> None:
    from datasets.prepare.shapes import prepare

    prepare(tmp_path, train=3, val=1, novel=1)
    whole = find("shapes_train")
    things = whole.model_copy(update={"name": "things", "panoptic": None, "panoptic_images": None})
    stream = _stream(whole).model_copy(update={"dataset": (things, whole)})
    assert {sample.id.partition("/")[0] for sample in _samples(train_loader(stream, tmp_path), 2)} == {"things", "shapes_train"}
    stream = stream.model_copy(update={"tasks": ("segmentation",)})
    with pytest.raises(ValueError, match="'things' and 'shapes_train' have different classes; make each a stream of its own"):
        train_loader(stream, tmp_path)


def test_records_say_what_is_missing() -> None:
    assert pairs.record(b"x", ["a", " ", None, "b "], None, Path(), "f: row 1") == Record(
        "f: row 1", pairs.Encoded(b"x", "f: row 1"), captions=("a", "b")
    )
    with pytest.raises(ValueError, match="f: row 1 has no caption"):
        pairs.record(b"x", [""], 1, Path(), "f: row 1")
    with pytest.raises(ValueError, match="f: row 1 has no picture"):
        pairs.record(None, "a", 1, Path(), "f: row 1")
