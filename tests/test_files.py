"""Writing files so that nobody sees half of one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from xdecoder.files import atomic, read_json, write_json


def test_json_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "deep/er/scores.json"
    write_json(path, {"shapes_val/PQ": 43.2, "names": ["a", "é"], "none": None})
    assert read_json(path) == {"shapes_val/PQ": 43.2, "names": ["a", "é"], "none": None}
    assert os.listdir(path.parent) == ["scores.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.bin"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="stopped"), atomic(path) as file:
        file.write(b"half of the new")
        raise RuntimeError("stopped")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state.bin"], "no draft is left behind"


def test_what_json_cannot_hold_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.bin"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("xdecoder.files.os.fsync", full)
    sentence = r"state\.bin could not be written \(No space left on device\)"
    with pytest.raises(OSError, match=sentence) as error, atomic(path) as file:
        file.write(b"new")
    assert error.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["state.bin"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """The draft's name points at a device on which every write fails."""
    (tmp_path / f".state.bin.{os.getpid()}.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"state\.bin could not be written"), atomic(tmp_path / "state.bin") as file:
        file.write(b"x" * 100_000)
    assert os.listdir(tmp_path) == []


def test_text_mode_is_utf8(tmp_path: Path) -> None:
    with atomic(tmp_path / "page.html", "w") as file:
        file.write("é✓")
    assert (tmp_path / "page.html").read_bytes() == "é✓".encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html></html>", "found an HTML page"),
        (b"\n  <html>", "found an HTML page"),
        (b'{"a": ', "not valid JSON"),
        (b"", "not valid JSON"),
        (b"\xff\xd8\xff\xe0", "found a binary file"),
    ],
)
def test_what_is_no_json(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "captions.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_json(path)
    assert "captions.json" in str(error.value) and "\n" not in str(error.value)


def test_a_missing_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.json: no such file"):
        read_json(tmp_path / "none.json")
