"""Packed files that claim what they do not hold: one sentence each, in little memory and time."""

from __future__ import annotations

import os
import struct
import tarfile
from pathlib import Path

import pytest

from datasets.readers import pairs, read, tar
from datasets.spec import DatasetSpec
from tests.datasets.packed import image, members, rows, write_arrow, write_parquet, write_tar
from xdecoder.config import parse

pytest.importorskip("pyarrow", reason="Arrow and parquet files need pyarrow")


def _spec(reader: str, *files: str) -> DatasetSpec:
    return parse(DatasetSpec, {"name": "corpus", "reader": reader, "files": files})


def _header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def _block(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


WHOLE = b"".join(_header(name, len(data)) + _block(data) for name, data in members(rows(1)))
ENDLESS = b"0 path=a\n"  # a record of length 0 is followed by itself
PAX = {
    "length 0": ENDLESS,
    "no length": b"path=a\n",
    "too long": b"99 path=a\n",
    "huge": b"9" * 5000 + b" path=a\n",
    "no sign": b"7 path\n",
}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *((_header("x", len(pax), tarfile.XHDTYPE) + _block(pax), "a line of a wrong length") for pax in PAX.values()),
        (_header("a.png", 10**15), r"a member at byte 0 claims 1000000000000000 bytes"),
        (_header("a.png", 0)[:124] + b"\xff" * 12 + _header("a.png", 0)[136:], ""),
        (_header("x", 1 << 32, tarfile.GNUTYPE_LONGNAME), r"a member at byte 0 claims 4294967296 bytes"),
        (_header("x", 5000, tarfile.GNUTYPE_LONGNAME) + _block(b"n" * 5000) + WHOLE, "a name has more than 4096 bytes"),
        (_header("a.png", 512, tarfile.GNUTYPE_SPARSE) + bytes(512), "'a.png' is packed with holes"),
        (_header("x", 25, tarfile.XHDTYPE) + _block(b"25 GNU.sparse.realsize=9\n") + WHOLE, "is packed with holes"),
        (
            _header("x", 24, tarfile.XHDTYPE) + _block(b"24 size=100000000000000\n") + WHOLE,
            "claims 100000000000000 bytes",
        ),
        (_header("x", 13, tarfile.XHDTYPE) + _block(b"13 size=-900\n") + WHOLE, "claims -1 bytes"),
    ],
)
def test_tar(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.tar").write_bytes(content + bytes(1024))
    with pytest.raises(ValueError, match=rf"a\.tar: is not a complete.* tar file \(.*{message}.*\); fetch it again") as error:
        read(_spec("tar", "a.tar"), tmp_path)
    assert "\n" not in str(error.value)


def test_a_size_in_an_extended_header_counts(tmp_path: Path) -> None:
    """So are files of more than 8 GiB written; the plain header then has no size."""
    data = image(3)
    pax = f"{len(f'00 size={len(data)}') + 1} size={len(data)}\n".encode()
    text = _header("a.txt", 3) + _block(b"cat")
    content = _header("x", len(pax), tarfile.XHDTYPE) + _block(pax) + _header("a.png", 0) + _block(data) + text
    (tmp_path / "a.tar").write_bytes(content + bytes(1024))
    record = read(_spec("tar", "a.tar"), tmp_path).records[0]
    assert record.captions == ("cat",) and getattr(record.image, "data", None) == data


def test_what_lies_far_apart_or_is_too_large_is_not_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tar(tmp_path / "a.tar", [("a.png", image(1)), ("b.png", image(2)), ("b.txt", b"b"), ("a.txt", b"a")])
    monkeypatch.setattr(tar, "NEIGHBOURS", 100)
    records = read(_spec("tar", "a.tar"), tmp_path).records
    assert [record.captions for record in records] == [("a",), ("b",)]
    monkeypatch.setattr(tar, "LARGEST", {"picture": 10, "text": 10})
    with pytest.raises(ValueError, match=r"a\.tar: a: its picture has \d+ bytes; at most 10 are read"):
        records[0]


@pytest.mark.parametrize("said", [b'{"caption": ' + b"[" * 100_000, b'{"caption": ' + b"9" * 5000 + b"}"])
def test_hostile_json(tmp_path: Path, said: bytes) -> None:
    write_tar(tmp_path / "a.tar", [("a.png", image(1)), ("a.json", said)])
    with pytest.raises(ValueError, match=r"a\.tar: a: its \.json is not valid JSON"):
        read(_spec("tar", "a.tar"), tmp_path).records[0]


@pytest.mark.parametrize("claim", [0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 20])
@pytest.mark.parametrize("stream", [False, True])
def test_arrow_offsets(tmp_path: Path, claim: int, stream: bool) -> None:
    """They lie behind each other as 32-bit numbers; Arrow itself reads where they point."""
    content = rows(3)
    write_arrow(tmp_path / "a.arrow", content, stream=stream)
    sizes = [len(row["image"]) for row in content]
    plain = struct.pack("<4i", 0, sizes[0], sizes[0] + sizes[1], sum(sizes))
    whole = (tmp_path / "a.arrow").read_bytes()
    assert whole.count(plain) == 1
    (tmp_path / "a.arrow").write_bytes(whole.replace(plain, struct.pack("<iIIi", 0, claim, claim, sum(sizes))))
    with pytest.raises(ValueError, match=r"a\.arrow: is not a complete Arrow file \(.*\); fetch it again"):
        read(_spec("arrow", "a.arrow"), tmp_path)


def test_a_reader_that_dies_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        write_parquet(tmp_path / f"{name}.parquet", rows(2))
    killer = tmp_path / "killer"
    killer.write_text("#!/bin/sh\necho 0\necho 1\nkill -ABRT $$\n")
    killer.chmod(0o755)
    monkeypatch.setattr("datasets.readers.columns.sys.executable", str(killer))
    with pytest.raises(
        ValueError, match=r"b\.parquet: is not a complete parquet file \(its numbers lead Arrow astray, signal 6\)"
    ):
        read(_spec("parquet", "{a,b}.parquet"), tmp_path)


def test_pipes_and_patterns(tmp_path: Path) -> None:
    write_arrow(tmp_path / "a.arrow", rows(2))
    os.mkfifo(tmp_path / "b.arrow")
    with pytest.raises(ValueError, match="no such file"):
        read(_spec("arrow", "*.arrow"), tmp_path)
    for pattern in ("{0..99999999999}.arrow", "{a,b}" * 40 + ".arrow"):
        with pytest.raises(ValueError, match="its patterns mean more than 100000 files"):
            read(_spec("arrow", pattern), tmp_path)


def test_captions_of_other_types() -> None:
    for captions in (5, {"a": 1}, b"a", None, [1, None]):
        with pytest.raises(ValueError, match="f: row 1 has no caption"):
            pairs.record(b"x", captions, 1, Path(), "f: row 1")
    assert pairs.record(b"x", "a", "1" * 5000, Path(), "f").id == "1" * 5000
