"""Writing files so that nobody sees half of one."""

from __future__ import annotations

import errno
import json
import os
import zipfile
from pathlib import Path

import pytest

from xdecoder.files import atomic, numbered_lines, read_json, read_lines, read_text, shown, sweep, write_json
from xdecoder.integrity import check_zip


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
        ('{"a": "é"}'.encode("latin-1"), r"text of another encoding \(byte 7 is not UTF-8\)"),
        (b"[" * 200_000, "recursion limit"),
        (b"1" * 5000, "not valid JSON"),
        (b'["\\\\\\ud83d"]', "hex escape"),
        (b'{"a": "\\ude00"}', "hex escape"),
        (b'{"a": "\0"}', "it holds a NUL"),
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


def test_json_as_windows_writes_it(tmp_path: Path) -> None:
    content = {"name": "Häuschen \U0001f3e0", "escaped": "\\ud83d"}
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "a.json").write_text(json.dumps(content), encoding=encoding)
        assert read_json(tmp_path / "a.json") == content
        (tmp_path / "a.json").write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)
        assert read_json(tmp_path / "a.json") == content


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_a_list_of_lines(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "classes.txt"
    text = "star\r\nring \r\n\r\n\t disc  \rHäuschen\n\n"
    path.write_bytes((b"\xff\xfe" if encoding == "utf-16-le" else b"") + text.encode(encoding))
    assert read_lines(path) == ["star", "ring", "disc", "Häuschen"]
    assert numbered_lines(path) == [(1, "star"), (2, "ring"), (4, "disc"), (5, "Häuschen")]


def test_only_ordinary_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "list.txt")
    for read in (read_lines, read_json, read_text):
        with pytest.raises(ValueError, match=r"list\.txt: is a pipe, a socket or a device, not a"):
            read(tmp_path / "list.txt")
        with pytest.raises(ValueError, match="is a folder, not a"):
            read(tmp_path)
        with pytest.raises(ValueError, match="embedded null byte"):
            read("a\0b")


def test_a_text_has_a_limit(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_bytes(b"x" * 11)
    with pytest.raises(ValueError, match=r"long\.txt: is 11 bytes long; a list has at most 10"):
        read_text(tmp_path / "long.txt", "list", limit=10)


def test_values_are_cut_before_they_are_shown() -> None:
    bomb: list[object] = ["x" * 10**6]
    for _ in range(30):  # 10^30 items, as YAML's aliases make them
        bomb = [bomb] * 10
    for value in (bomb, "x" * 10**8, {str(i): bomb for i in range(9)}, 1 << 10**6, list(range(10**6))):
        assert len(shown(value)) <= 320
    assert shown("cat") == "'cat'" and shown(7) == "7" and shown([1, 2]) == "[1, 2]"


def test_drafts_of_the_dead_are_swept_and_those_of_the_living_are_not(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    dead = [tmp_path / ".model.pt.4711.part", tmp_path / "deep" / ".config.yaml.1.part"]
    for path in (*dead, tmp_path / ".other.part", tmp_path / "a.1.part"):
        path.write_bytes(b"half")
    with atomic(tmp_path / "state.bin") as file:
        file.write(b"new")
        sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [".other.part", "a.1.part", "state.bin"]


def test_a_draft_is_on_the_disk_before_it_takes_its_name_and_the_name_before_the_block_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append(os.readlink(f"/proc/self/fd/{file}")), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda source, target: (done.append(f"to {target}"), replace(source, target)))
    with atomic(tmp_path / "new" / "state.bin") as file:
        file.write(b"new")
    draft = str(tmp_path / "new" / f".state.bin.{os.getpid()}.part")
    assert done == [str(tmp_path), draft, f"to {tmp_path / 'new' / 'state.bin'}", str(tmp_path / "new")]


def test_any_flipped_byte_of_an_archives_content_is_found(tmp_path: Path) -> None:
    path = tmp_path / "state.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", b"some content")
    whole = path.read_bytes()
    check_zip(path)
    for at in range(whole.index(b"some"), whole.index(b"some") + len(b"some content")):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with pytest.raises(ValueError, match=r"state\.zip: damaged"):
            check_zip(path)
