"""Films in and out, a frame at a time."""

from __future__ import annotations

import os
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

av = pytest.importorskip("av", reason="films need PyAV, the extra `video`")

from tests.xdecoder.inference.films import SIZE, film, frame  # noqa: E402
from xdecoder.inference import video  # noqa: E402


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_frames_come_back_as_they_were_written(suffix: str, tmp_path: Path) -> None:
    found = video.open_film(film(tmp_path / f"a{suffix}"))
    assert (found.size, found.rate, found.count) == (SIZE, Fraction(10), 6)
    for number, image in enumerate(found.frames()):
        difference = np.abs(np.asarray(image).astype(int) - np.asarray(frame(number)))
        assert np.median(difference) <= 4, number
    assert np.asarray(found.frame(3))[20, 20, 0] > 150


def test_odd_sides_get_a_line(tmp_path: Path) -> None:
    found = video.open_film(film(tmp_path / "a.mp4", 2, (63, 47)))
    assert found.size == (64, 48) and found.count == 2


def test_nothing_takes_the_name_before_all_is_written(tmp_path: Path) -> None:
    with pytest.raises(KeyError), video.writer(tmp_path / "a.mp4", SIZE, Fraction(10)) as write:
        write(frame(0))
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"a\.gif: a film is written as .*\.mp4.*, not as \.gif"):
        film(tmp_path / "a.gif")


def _two_sizes(path: Path) -> None:
    """Frames of two sizes in one stream, as broadcasts have them."""
    with av.open(str(path), "w", format="mpegts") as container:
        for size in (SIZE, (96, 64)):
            codec = av.CodecContext.create("mpeg2video", "w")
            codec.width, codec.height, codec.pix_fmt, codec.framerate = (*size, "yuv420p", Fraction(25))
            codec.time_base = Fraction(1, 25)
            if size == SIZE:
                stream = container.add_stream("mpeg2video", rate=25, width=SIZE[0], height=SIZE[1], pix_fmt="yuv420p")
            for number in range(3):
                shown = av.VideoFrame.from_image(frame(number, size))
                shown.pts = number + 3 * (size != SIZE)
                for packet in codec.encode(shown):
                    packet.stream = stream
                    container.mux(packet)
            for packet in codec.encode():
                packet.stream = stream
                container.mux(packet)


def _sound(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        sound.rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())


def _list(path: Path) -> None:
    """What FFmpeg would read other files for, or fetch them."""
    film(path.with_name("b.mp4"))
    path.write_text(f"ffconcat version 1.0\nfile {path.with_name('b.mp4')}\n")


BROKEN = {
    "missing": (lambda path: None, "no such film"),
    "empty": (lambda path: path.write_bytes(b""), "is no film, or in a format that is not read"),
    "text": (lambda path: path.write_text("hello"), "is no film"),
    "a list": (_list, "is no film"),
    "a playlist": (lambda path: path.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n"), "is no film"),
    "a picture": (lambda path: frame(0).save(path, "PNG"), "is no film"),
    "cut": (lambda path: path.write_bytes(film(path).read_bytes()[:200]), "is no film"),
    "sound": (_sound, "holds no pictures, at most sound"),
    "no frame": (lambda path: film(path, 0), "is no film|has no frame|no pictures"),
    "a folder": (lambda path: path.mkdir(), "is a folder, not a film"),
    "a pipe": (lambda path: os.mkfifo(path), "is a pipe, a socket or a device"),
    "changing size": (_two_sizes, "frame [23] has 96x64 pixels, but those before it 64x48; cut the film"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_told_in_one_sentence(name: str, tmp_path: Path) -> None:
    make, sentence = BROKEN[name]
    path = tmp_path / "a.mp4"
    make(path)
    with pytest.raises(ValueError, match=sentence) as error:
        list(video.open_film(path).frames())
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_frame_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.mp4: has no frame 9; its 6 frames are counted from 0"):
        video.open_film(film(tmp_path / "a.mp4")).frame(9)


def test_a_film_that_is_stored_turned_is_turned_back() -> None:
    class Stored:
        rotation = -90.0  # clockwise

        def to_image(self) -> Image.Image:
            return frame(0)

    assert np.array_equal(np.asarray(video._upright(Stored())), np.rot90(np.asarray(frame(0)), k=3))


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "a.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"needs PyAV: pip install '\.\[video\]'"):
        video.open_film(path)
