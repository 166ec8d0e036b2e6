"""Files: written so that nobody sees half of one, not even after a power cut, and read as ordinary text, lists and JSON."""

from __future__ import annotations

import codecs
import json
import os
import reprlib
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pydantic_core import from_json

MAX_TEXT = 1 << 28  # bytes of a list; the longest of the public sets has 60 million
MAX_JSON = 1 << 32  # Visual Genome has files of a gigabyte
_SYSTEM = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir", "$RECYCLE.BIN"})
_READ = ("bmp", "gif", "j2k", "jfif", "jp2", "jpe", "jpeg", "jpg", "pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff", "webp")
_UNREAD = (
    "arw",
    "avif",
    "cr2",
    "cr3",
    "dcm",
    "dng",
    "exr",
    "hdr",
    "heic",
    "heif",
    "jxl",
    "nef",
    "orf",
    "psd",
    "rw2",
    "svg",
    "tga",
)
IMAGE_SUFFIXES = frozenset(f".{name}" for name in _READ)
"""Of the files that are taken for pictures where a folder is searched; a file that is named may have any."""
FILM_SUFFIXES = frozenset((".3gp", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv"))
"""Of the files that are taken for films."""
UNREAD_SUFFIXES = frozenset(f".{name}" for name in _UNREAD)
"""Of pictures in formats that are not read, which are not left out without a word."""


class FileError(ValueError):
    """A file that cannot be used, in one sentence.

    Attributes:
        kind: why, in one word: missing, damaged, encoding, page, pointer, special or large.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(printable(message))
        self.kind = kind


try:
    import fcntl
except ImportError:  # Windows: drafts are not marked as being written, and `sweep` is not called there
    fcntl = None  # type: ignore[assignment]


@contextmanager
def atomic(path: str | Path, mode: str = "wb", check: Callable[[Path], None] | None = None) -> Iterator[IO[Any]]:
    """Open a file for writing that takes its name only when the block ends well and all of it is on the disk.

    Args:
        check: reads what was written, back from the disk, and raises if it may not take the name.

    Raises:
        OSError: naming `path`, for example when the disk is full; what stood there before is untouched.
    """
    path = Path(path)
    make_folder(path.parent)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(draft, mode, encoding=None if "b" in mode else "utf-8") as file:
            _try_to_lock(file)
            yield file
            file.flush()
            os.fsync(file.fileno())
            if check is not None:
                forget(draft)
                check(draft)
        os.replace(draft, path)
        sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        # torch covers the error of a failed write, such as on a full disk, with a RuntimeError of its own.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise OSError(cause.errno, f"{path} could not be written ({cause.strerror or cause}); nothing was changed") from error
    finally:
        draft.unlink(missing_ok=True)


def forget(path: Path) -> None:
    """Let the system drop what it holds in memory of a file that is on the disk: who reads it next reads the disk."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError), open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing, so that they outlast a power cut."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_folder(made.parent)


def sync_folder(path: Path) -> None:
    """Wait until the folder's list of names is on the disk; some systems cannot be asked, and then nothing happens."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove the drafts that killed processes left in and below a folder; those that are being written stay."""
    for draft in folder.rglob(".*.[0-9]*.part"):
        with suppress(OSError), open(draft, "rb") as file:
            if _try_to_lock(file):
                draft.unlink()


def _try_to_lock(file: IO[Any]) -> bool:
    """Hold a draft until the file is closed, or its process dies; False if another process does."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (OSError, AttributeError):  # a file system without locks, or Windows
        return True
    return True


def regular(path: str | Path, what: str = "file") -> Path:
    """The path, if an ordinary file lies there: opening a named pipe or a device could wait for ever.

    Raises:
        ValueError: naming the path; `what` says which kind of file was expected.
    """
    _size(path, what)
    return Path(path)


def _size(path: str | Path, what: str) -> int:
    """Bytes of an ordinary file; raises ValueError as `regular` does."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise FileError(f"{path}: no such {what}", "missing") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        raise FileError(f"{shown(str(path))}: the {what} cannot be reached ({error})", "missing") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, a socket or a device"
        raise FileError(f"{path}: is {kind}, not a {what}", "special")
    return found.st_size


def shown(value: object, length: int = 80) -> str:
    """`repr` for messages, cut before it is made: a value from a file may be larger than the memory."""
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother = 2, length, length
    short.maxdict = short.maxlist = short.maxtuple = short.maxset = 4
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    return short.repr(value)[: 4 * length]


def printable(text: str) -> str:
    """The text with what cannot be shown, such as control characters in a file's name, written as escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically."""
    with atomic(path, "w") as file:
        json.dump(content, file, indent=1)
        file.write("\n")


def read_text(path: str | Path, what: str = "file", limit: int = MAX_TEXT) -> str:
    """A whole text: UTF-8, or what a byte order mark announces (Windows editors write UTF-8 and UTF-16 with one).

    Raises:
        ValueError: naming the file if it is missing, no ordinary file, of more than `limit` bytes, or not such a text.
    """
    size = _size(path, what)
    if size > limit:
        raise FileError(f"{path}: is {size} bytes long; a {what} has at most {limit}", "large")
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise FileError(f"{path}: the {what} cannot be read ({error.strerror})", "damaged") from None
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        text, place = "\0", f"byte {error.start} is not {encoding.removesuffix('-sig').upper()}"
    else:
        place = "it holds a NUL"
    if "\0" in text:
        told = f"found a binary file, or text of another encoding ({place}); a {what} is text in UTF-8"
        raise FileError(f"{path}: {told}", "encoding")
    return text


def read_json(path: str | Path) -> Any:
    """Read JSON; raises ValueError in one sentence that names the file if it is missing or not JSON."""
    text = read_text(path, limit=MAX_JSON)
    try:
        return from_json(text, cache_strings="keys")
    except ValueError as error:
        if text.lstrip()[:1] == "<":
            raise FileError(f"{path}: expected JSON, found an HTML page; the download probably failed", "page") from None
        if text.startswith("version https://git-lfs"):
            raise FileError(f"{path}: is a Git LFS pointer, not the file itself", "pointer") from None
        raise FileError(f"{path}: not valid JSON ({error})", "damaged") from None


def read_lines(path: str | Path) -> list[str]:
    """Lines of a text file without blanks around them, empty ones left out; raises ValueError naming the file."""
    return [line for line in lines_in(read_text(path)) if line]


def numbered_lines(path: str | Path) -> list[tuple[int, str]]:
    """As `read_lines`, each with its number in the file, from 1."""
    return [(number, line) for number, line in enumerate(lines_in(read_text(path)), start=1) if line]


def lines_in(text: str) -> list[str]:
    """All lines of a text without blanks around them, also the empty ones; only line feeds and carriage returns end a line."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return [line.strip() for line in text.split("\n")]


def hidden(name: str) -> bool:
    """Whether a file or folder is the system's and none of the user's: ._x, .DS_Store, .ipynb_checkpoints, __MACOSX."""
    return name.startswith(".") or name in _SYSTEM


def files_below(folder: Path) -> Iterator[str]:
    """Paths, relative to a folder, of the files in it and in its folders, without hidden ones; none if it is not there."""
    seen: set[str] = set()
    for home, folders, names in os.walk(folder, followlinks=True):
        if os.path.realpath(home) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(os.path.realpath(home))
        folders[:] = sorted(name for name in folders if not hidden(name))
        inner = PurePosixPath(Path(home).relative_to(folder).as_posix())
        yield from (str(inner / name) for name in sorted(names) if not hidden(name))


def is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def unread_below(folder: Path) -> list[str]:
    """As `images_below`, those in formats that are not read."""
    return sorted(name for name in files_below(folder) if os.path.splitext(name)[1].lower() in UNREAD_SUFFIXES)


def images_below(folder: Path) -> list[str]:
    """Paths, relative to a folder, of the picture files in it and in its folders, in order, without hidden ones."""
    return sorted(name for name in files_below(folder) if is_image(name))
