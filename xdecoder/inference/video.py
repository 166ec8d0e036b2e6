"""Films: frames in and out one at a time, so that memory does not grow with their length. Needs PyAV (`xdecoder[video]`)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image

from xdecoder.files import FileError, atomic, regular
from xdecoder.images import MAX_PIXELS

DEMUXERS = "mov,matroska,avi,mpegts,mpeg,ogg,asf"
"""FFmpeg's names of what is read: files that hold their pictures. It knows others, such as lists that name further files."""
_WRITTEN = {".mkv": "libx264", ".mov": "libx264", ".mp4": "libx264", ".webm": "libvpx-vp9"}
_RATE = Fraction(25)  # of a film that does not tell


@dataclass(frozen=True)
class Film:
    """A film's frames, all of one size."""

    path: Path
    size: tuple[int, int]  # width and height, turned as the camera was held
    rate: Fraction  # frames a second
    count: int  # frames, as the file says, or reckoned from its length; 0 = not known

    def frames(self) -> Generator[Image.Image, None, None]:
        """All frames in turn (RGB); raises ValueError for what cannot be read and where the size changes, naming the frame."""
        number = -1
        for number, image in enumerate(_decoded(self.path)):
            if image.size != self.size:
                told = f"frame {number} has {_shown(image.size)} pixels, but those before it {_shown(self.size)}"
                raise ValueError(f"{self.path}: {told}; cut the film where its size changes")
            yield image
        if number < 0:
            raise ValueError(f"{self.path}: the film has no frame")

    def frame(self, number: int) -> Image.Image:
        """One frame, counted from 0; raises ValueError where there is none."""
        found = -1
        with closing(self.frames()) as frames:
            for found, image in enumerate(frames):
                if found == number:
                    return image
        raise ValueError(f"{self.path}: has no frame {number}; its {found + 1} frames are counted from 0")


def open_film(path: str | Path) -> Film:
    """A film, of which the first frame can be read.

    Raises:
        ValueError: naming a file that is missing, no film, without pictures, or of more than MAX_PIXELS a frame; and where
            PyAV is not installed.
    """
    path = Path(path)
    with _opened(path) as container:
        stream = container.streams.video[0]
        rate = Fraction(stream.average_rate or stream.guessed_rate or _RATE)
        rate = rate if 0 < rate <= 1000 else _RATE
        count = stream.frames or (int(container.duration / 1_000_000 * rate) if container.duration else 0)
    with closing(_decoded(path)) as frames:
        first = next(frames, None)
    if first is None:
        raise ValueError(f"{path}: the film has no frame")
    return Film(path, first.size, rate, max(count, 0))


@contextmanager
def writer(path: Path, size: tuple[int, int], rate: Fraction) -> Iterator[Callable[[Image.Image], None]]:
    """What writes frames, one by one, to a film that takes its name when all is written.

    Args:
        size: width and height of all frames; an odd side gets a black line, since films have even ones.
        rate: frames a second.

    Raises:
        ValueError: for a suffix that stands for no kind of film which is written.
    """
    codec = _WRITTEN.get(path.suffix.lower())
    if codec is None:
        raise ValueError(f"{path}: a film is written as {', '.join(_WRITTEN)}, not as {path.suffix or 'one without suffix'}")
    av = _pyav()
    kind = {".mkv": "matroska"}.get(path.suffix.lower(), path.suffix.lower()[1:])
    width, height = (side + side % 2 for side in size)
    with atomic(path) as file, av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=rate, width=width, height=height, pix_fmt="yuv420p")

        def write(image: Image.Image) -> None:
            shown = image if image.size == (width, height) else image.crop((0, 0, width, height))
            container.mux(stream.encode(av.VideoFrame.from_image(shown)))

        yield write
        container.mux(stream.encode())


def _decoded(path: Path) -> Generator[Image.Image, None, None]:
    """Frames in turn; raises ValueError naming the frame that cannot be read."""
    av, number = _pyav(), 0
    with _opened(path) as container:
        frames = container.decode(container.streams.video[0])
        while True:
            try:
                frame = next(frames, None)
                image = None if frame is None else _upright(frame)
            except (av.FFmpegError, ValueError, MemoryError) as error:
                raise FileError(f"{path}: frame {number} of the film cannot be read ({_said(error)})", "damaged") from None
            if image is None:
                return
            yield image
            number += 1


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file with its header read; it holds pictures that fit into memory, and may name no other file."""
    av = _pyav()
    regular(path, "film")
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    try:
        container = av.open(f"file:{path}", options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise FileError(f"{path}: is no film, or in a format that is not read ({_said(error)})", "damaged") from None
    with container:
        if not container.streams.video:
            raise ValueError(f"{path}: holds no pictures, at most sound")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        if stream.width * stream.height > MAX_PIXELS:
            raise ValueError(f"{path}: too large a film, {_shown((stream.width, stream.height))}; at most {MAX_PIXELS} pixels")
        yield container


def _upright(frame: Any) -> Image.Image:
    """A frame turned as the camera was held, which phones store beside the pixels."""
    image: Image.Image = frame.to_image()
    turns = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
    turn = turns.get(round(frame.rotation) % 360)
    return image if turn is None else image.transpose(turn)


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _said(error: BaseException) -> str:
    return str(getattr(error, "strerror", "") or error or type(error).__name__)[:200]


def _pyav() -> ModuleType:
    try:
        import av
    except ImportError:
        raise ValueError("reading and writing films needs PyAV: pip install '.[video]'") from None
    return av
