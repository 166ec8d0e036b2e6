"""The command `xdecoder`: one question, any number of pictures. This is the library's only edge to the shell."""

from __future__ import annotations

import argparse
import difflib
import glob
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.metadata import version
from io import BytesIO, TextIOWrapper
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn
from urllib.parse import urlsplit

from xdecoder import __version__, completion, rooms, shipped, weights
from xdecoder.arguments import number, whole
from xdecoder.files import FILM_SUFFIXES, IMAGE_SUFFIXES, atomic, images_below, read_json, read_lines, unread_below, write_json

if TYPE_CHECKING:  # torch takes seconds to import; `xdecoder --help` does without
    from PIL.Image import Image

    from xdecoder.inference.predictor import Picture, Predictor
    from xdecoder.inference.results import Drawable

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_CLOSED = 141
"""Whoever read what is printed has stopped reading, as `head` does."""
ADDRESS = ("http://", "https://")

NAMING = ("--classes", "--things", "--names", "--labels", "--phrases", "--texts", "--prompts")
"""What commands call the names that they are to look for, here and elsewhere."""
SAVED = ("json", "png", "coco", "yolo", "labelstudio", "geojson")
"""What --save writes for each picture; of COCO one file for all, and of YOLO the names besides."""
_TOO_LITTLE_MEMORY = ("out of memory", "allocate memory")  # of a GPU, of the machine
SIMILARITY = "least similarity, -1 to 1, of a phrase and its region; -1 finds something for each"

EXAMPLES = """\
examples:
  xdecoder panoptic street.jpg --things car person --stuff road sky --checkpoint model.pt --out answers
  xdecoder segment photos/ --classes zebra grass sky --checkpoint model.pt --out answers
  xdecoder refer table.jpg --phrases "the left cup" "a white tea pot" --checkpoint model.pt --out answers
  xdecoder caption 'photos/**/*.jpg' --checkpoint model.pt
  xdecoder panoptic https://example.org/street.jpg --urls --things car --checkpoint focal-t --out answers
  xdecoder retrieve photos/ --text "pizza on the plate" --checkpoint model.pt --out answers
  xdecoder edit table.jpg "remove the left cup, then make the table blue" --checkpoint model.pt --out answers
  xdecoder everything photos/ --checkpoint model.pt --out answers
  xdecoder index photos/ --checkpoint model.pt --out photos.index
  xdecoder search photos.index "a red cube left of a star" --checkpoint model.pt --out found
  xdecoder label sam.json --images photos/ --names cup table --checkpoint model.pt --out labelled.json
  xdecoder track street.mp4 --click 412,230 --checkpoint seem_focalt_v1.pt --out tracked.mp4
  xdecoder export --checkpoint model.pt --out model.onnx --things car person --stuff road sky

Without --out, one line of JSON a picture goes to the standard output. A list too long for the
line can stand in a file, one entry a line: --classes @classes.txt
"""


@dataclass(frozen=True)
class Answer:
    """What is said of a picture: JSON, and a drawing where there is one."""

    content: dict[str, Any]
    draw: Callable[..., Image] | None = None
    result: Drawable | None = None  # what other formats are made of
    names: Sequence[str] = ()  # what was asked for: YOLO's numbers of classes


@dataclass(frozen=True)
class Photo:
    path: Path | str  # of a file, or a web address
    name: Path  # where its answer goes below --out, without suffix

    def content(self) -> Path | BinaryIO:
        """The file, or what the address gives; raises ValueError where it gives nothing."""
        if isinstance(self.path, Path):
            return self.path
        from xdecoder.download import fetch_image

        file = BytesIO(fetch_image(self.path))
        file.name = self.path
        return file


Ask = Callable[["Predictor", "list[Picture]", argparse.Namespace], "list[Answer]"]
Fault = Callable[[ValueError], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0, or 2 after an error told in one sentence on the standard error."""
    try:
        status = _main(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
        return EXIT_CLOSED
    return status


def _main(given: list[str]) -> int:
    if given and given[0] in rooms.COMMANDS:
        try:
            return rooms.run(given[0], given[1:])
        except ValueError as error:
            return _complain(error)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # files are printed as they are named, in whatever encoding
    parser = _parser()
    if not given:
        parser.print_help(sys.stderr)
        return EXIT_ERROR
    options, unknown = parser.parse_known_args(given)
    if unknown:
        parser.error(f"unknown option {unknown[0]}{_meant(unknown[0], options)}")
    try:
        status: int = options.run(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        raise
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        foreseen = not isinstance(error, RuntimeError) or any(words in str(error) for words in _TOO_LITTLE_MEMORY)
        if options.debug or not foreseen:
            raise
        return _complain(error)
    return status


def _meant(option: str, options: argparse.Namespace) -> str:
    """Which option of the command somebody may have meant by one that it has not."""
    own = [f"--{name.replace('_', '-')}" for name in vars(options)]
    alike = [other for other in ("--things", "--classes", "--phrases") if other in own]
    close = alike[:1] if option in NAMING else difflib.get_close_matches(option, own, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _each_image(options: argparse.Namespace) -> int:
    """Ask about the pictures. One that cannot be read is told of and does not keep the others from their answers."""
    photos = images_of(_images(options), options.urls)
    if options.resume and options.out is not None:
        photos = [photo for photo in photos if not any(_file(options, photo, kind).is_file() for kind in ("json", "jsonl"))]
    if not photos:
        return 0
    model = _load(options)
    status, saved = 0, []

    def fault(error: ValueError) -> None:
        nonlocal status
        if len(photos) == 1:
            raise error
        status = _complain(error)

    films = [photo for photo in photos if isinstance(photo.path, Path) and photo.path.suffix.lower() in FILM_SUFFIXES]
    waiting = _progress([photo for photo in photos if photo not in films])
    while some := list(islice(waiting, options.batch)):
        for photo, answer in _answers(model, _opened(model, some, fault), options, fault):
            _tell(photo, answer, options)
            if answer.result is not None and "coco" in options.save:
                saved.append((str(photo.path), answer.result))
    for film in films:
        try:
            _tell_film(model, film, options)
        except ValueError as error:
            fault(error)
    if saved and options.out is not None:
        from xdecoder.inference import formats

        write_json(options.out / "coco.json", formats.coco(saved))
        print(options.out / "coco.json", flush=True)
    return status


def _tell_film(model: Predictor, photo: Photo, options: argparse.Namespace) -> None:
    from xdecoder import films

    assert isinstance(photo.path, Path)
    target = None if options.out is None else options.out / photo.name
    for path in films.ask(model, photo.path, target, options, _show):
        print(path, flush=True)


def _track(options: argparse.Namespace) -> int:
    from xdecoder import films

    for path in films.track(lambda: _load(options), options, _show):
        print(path, flush=True)
    return 0


def _opened(model: Predictor, photos: Sequence[Photo], fault: Fault) -> list[tuple[Photo, Picture]]:
    """The photos that can be read, ready to be asked about."""
    found = []
    for photo in photos:
        try:
            found.append((photo, model.encode(photo.content())))
        except ValueError as error:
            fault(error)
    return found


def _answers(
    model: Predictor, opened: Sequence[tuple[Photo, Picture]], options: argparse.Namespace, fault: Fault
) -> Iterator[tuple[Photo, Answer]]:
    """What is said of pictures that are asked about together; where one of them is at fault, only that one goes without."""
    if not opened:
        return
    try:
        answers: list[Answer] = options.ask(model, [picture for _, picture in opened], options)
    except ValueError as error:
        if len(opened) == 1:
            fault(error)
            return
        for one in opened:
            yield from _answers(model, [one], options, fault)
        return
    yield from zip((photo for photo, _ in opened), answers, strict=True)


def _file(options: argparse.Namespace, photo: Photo, suffix: str) -> Path:
    """Where an answer goes below --out."""
    target: Path = options.out / photo.name
    return target.with_name(f"{target.name}.{suffix}")


def _images(options: argparse.Namespace) -> list[str]:
    """The line's pictures. A list such as `--things cat sofa photo.jpg` takes in those behind it: here they come out again.

    Raises:
        ValueError: where none is named.
    """
    found: list[str] = list(options.images)
    for name in ("things", "stuff", "classes", "phrases", "names"):
        names: list[str] = getattr(options, name, [])
        if not found and names and _is_image(names[-1]):
            last = next(i for i, each in enumerate(names) if all(_is_image(other) for other in names[i:]))
            found, names[last:] = names[last:], []
    if not found:
        raise ValueError("no picture is named; name files, folders or patterns before the options")
    return found


def _is_image(name: str) -> bool:
    return Path(name).exists() or Path(name).suffix.lower() in IMAGE_SUFFIXES


def _tell(photo: Photo, answer: Answer, options: argparse.Namespace) -> None:
    content = {"picture": str(photo.path), **answer.content}
    _show("")  # or the line of progress would stand before what is printed
    if options.out is None:
        print(json.dumps(content), flush=True)
        return
    files = [_file(options, photo, "json")]
    write_json(files[0], content)
    if answer.draw is not None and "png" in options.save:
        files.append(_file(options, photo, "png"))
        with atomic(files[-1]) as file:
            style = {"labels": not options.no_labels, "opacity": options.opacity, "keep_colors": options.keep_colors}
            answer.draw(overlay_only=options.overlay, **style).save(file, "PNG")
    if answer.result is not None:
        files += _other_formats(photo, answer.result, answer.names, options)
    print(*files, sep="\n", flush=True)


def _other_formats(photo: Photo, result: Drawable, names: Sequence[str], options: argparse.Namespace) -> list[Path]:
    """Write what --save names besides our own; the files."""
    from xdecoder.inference import formats

    files = []
    if "geojson" in options.save:
        files.append(_file(options, photo, "geojson"))
        write_json(files[-1], formats.geojson(result))
    if "labelstudio" in options.save:
        files.append(_file(options, photo, "labelstudio.json"))
        write_json(files[-1], formats.label_studio(str(photo.path), result))
    if "yolo" in options.save:
        files += [_file(options, photo, "txt"), options.out / "classes.txt"]
        for path, text in zip(files[-2:], (formats.yolo(result, names), "".join(f"{name}\n" for name in names)), strict=True):
            with atomic(path, "w") as file:
                file.write(text)
    return files


def _retrieve(options: argparse.Namespace) -> int:
    """Rank the pictures, read one after the other; the best one is answered with the region that the text means."""
    photos = images_of(_images(options), options.urls)
    model = _load(options)
    status, scores = 0, {}
    best: tuple[float, Photo, Picture] | None = None
    for photo in _progress(photos):
        try:
            picture = model.encode(photo.content())
            scores[photo] = score = picture.match([options.text]).item()
        except ValueError as error:
            status = _complain(error)
            continue
        if best is None or score > best[0]:
            best = (score, photo, picture)
    if best is None:
        return EXIT_ERROR
    order = sorted(scores, key=lambda photo: -scores[photo])
    ranking = [{"picture": str(photo.path), "score": round(scores[photo], 6)} for photo in order]
    found = best[2].refer([options.text])
    _tell(best[1], Answer({"text": options.text, "ranking": ranking, **found.to_json()}, found.draw), options)
    return status


def _serve_mcp(options: argparse.Namespace) -> int:
    from xdecoder import editing
    from xdecoder.serving import mcp
    from xdecoder.serving.session import Limits, Session
    from xdecoder.serving.tools import Tools

    model = _load(options)
    inpainter = editing.load_inpainter(options.inpainter, str(model.model.device)) if options.inpainter else None
    limits, config = Limits(seconds=options.seconds), editing.EditConfig(cosine=options.threshold)
    with tempfile.TemporaryDirectory(prefix="xdecoder-") as folder:
        mcp.serve(Tools(Session(model, Path(folder), options.root, limits), inpainter, config), options.http)
    return 0


def _serve_http(options: argparse.Namespace) -> int:
    from xdecoder.serving import http

    config = http.ServerConfig(batch=options.batch, seconds=options.seconds)
    http.serve(_load(options), options.host, options.port, config)
    return 0


def _weights(options: argparse.Namespace) -> int:
    print(weights.listing())
    return 0


def _completion(options: argparse.Namespace, commands: Mapping[str, argparse.ArgumentParser]) -> int:
    known = {
        name: [word for action in parser._actions for word in action.option_strings if word.startswith("--")]
        for name, parser in commands.items()
    }
    print(completion.script(options.shell, known, list(weights.PUBLISHED)), end="")
    return 0


def _export(options: argparse.Namespace) -> int:
    import xdecoder
    from xdecoder.inference import export
    from xdecoder.types import Vocabulary

    model = xdecoder.load(options.checkpoint).model
    export.export(model, options.out, options.size)
    print(options.out)
    names = (*options.things, *options.stuff)
    if names:
        vocabulary = Vocabulary(names, (True,) * len(options.things) + (False,) * len(options.stuff))
        classes = options.out.with_suffix(".classes.npz")
        export.write_classes(model, vocabulary, classes)
        print(classes)
    return 0


def _index(options: argparse.Namespace) -> int:
    from xdecoder.inference import index

    def tell(done: int, whole: int) -> None:
        _show(f"[{done}/{whole}] pictures" if done < whole else "")

    regions = None if options.no_regions else index.WORTH
    count = index.build(_load(options), options.folder, options.out, regions, tell)
    print(f"{options.out}: {count} pictures encoded")
    return 0


def _search(options: argparse.Namespace) -> int:
    from xdecoder.inference import index

    model, found = _load(options), index.load(options.index)
    if read_json(options.index / "index.json").get("network") != index.network_of(model):
        raise ValueError(f"{options.index}: an index of another network; make one with this one")
    for hit in index.search(model, found, options.text, options.count, options.regions, options.faiss):
        print(json.dumps({"picture": str(hit.path), "score": round(hit.score, 6), "box": hit.box}), flush=True)
        if options.out is not None:
            marked = model.refer(hit.path, [options.text], -1)
            marked.save((options.out / hit.name).with_suffix(".png"))
    return 0


def _label(options: argparse.Namespace) -> int:
    def tell(left: int) -> None:
        _show(f"{left} pictures left" if left else "")

    with rooms.opened("label"):
        labelling = import_module("datasets.labelling")  # annotations become masks there
        content = labelling.label_file(_load(options), options.file, options.images, options.names, tell)
    write_json(options.out, content)
    print(options.out)
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from xdecoder.inspection import inspect

    print(json.dumps(inspect(options.file), indent=1, default=str))
    return 0


def _segment(model: Predictor, pictures: list[Picture], options: argparse.Namespace) -> list[Answer]:
    found = model.segment(pictures, options.classes, threshold=options.threshold, tile=options.tile)
    return [Answer(result.to_json(), result.draw, result, options.classes) for result in found]


def _panoptic(model: Predictor, pictures: list[Picture], options: argparse.Namespace) -> list[Answer]:
    found = model.panoptic(pictures, options.things, options.stuff, threshold=options.threshold, tile=options.tile)
    return [Answer(result.to_json(), result.draw, result, [*options.things, *options.stuff]) for result in found]


def _instances(model: Predictor, pictures: list[Picture], options: argparse.Namespace) -> list[Answer]:
    found = model.instances(pictures, options.classes, threshold=options.threshold)
    return [
        Answer(result.to_json(), partial(result.draw, threshold=options.threshold), result, options.classes) for result in found
    ]


def _refer(model: Predictor, pictures: list[Picture], options: argparse.Namespace) -> list[Answer]:
    ask = model.refer_all if options.all else model.refer
    found = ask(pictures, options.phrases, options.threshold)
    return [Answer(result.to_json(), result.draw, result, options.phrases) for result in found]


def _everything(model: Predictor, pictures: list[Picture], options: argparse.Namespace) -> list[Answer]:
    found = model.everything(pictures, options.names)
    return [Answer(result.to_json(), result.draw, result, options.names) for result in found]


def _caption(model: Predictor, pictures: list[Picture], options: argparse.Namespace) -> list[Answer]:
    region = None if options.region is None else read_region(options.region)
    sentences = model.caption(pictures, region=[region] * len(pictures), beams=options.beams)
    return [Answer({"caption": sentence}) for sentence in sentences]


def _ask(model: Predictor, pictures: list[Picture], options: argparse.Namespace) -> list[Answer]:
    found = model.answer(pictures, options.question)
    return [Answer({"question": options.question, "answer": each.text, "score": each.score}) for each in found]


def _edit(model: Predictor, pictures: list[Picture], options: argparse.Namespace) -> list[Answer]:
    from xdecoder import editing

    inpainter = editing.load_inpainter(options.inpainter, str(model.model.device)) if options.inpainter else None
    config = editing.EditConfig(cosine=options.threshold)
    edited = [picture.edit(options.instruction, inpainter, config) for picture in pictures]
    return [Answer({"instruction": options.instruction, **each.to_json()}, partial(_image, each.image)) for each in edited]


def _image(image: Image, **_: Any) -> Image:
    return image


def read_region(path: Path) -> Any:
    """A picture of a mask as (H, W) booleans: what is not black."""
    import numpy as np

    from xdecoder.inference.predictor import open_image

    return np.asarray(open_image(path).convert("L")) > 0


def images_of(given: Sequence[str], urls: bool = False) -> list[Photo]:
    """The pictures that files, folders and patterns name, folders with all below them, in the order of the line.

    Args:
        urls: take web addresses as well.

    Raises:
        ValueError: for a name that matches nothing, and where two answers would go to the same file.
    """
    found = [photo for name in given for photo in _named(name, urls)]
    photos = list({photo.path: photo for photo in found}.values())
    times = Counter(photo.name for photo in photos)
    photos = [
        replace(photo, name=photo.name.with_name(PurePosixPath(photo.path).name)) if times[photo.name] > 1 else photo
        for photo in photos
    ]
    first: dict[Path, Photo] = {}
    for photo in photos:
        if (other := first.setdefault(photo.name, photo)) is not photo:
            raise ValueError(
                f"{other.path} and {photo.path} would both be answered in {photo.name}.json; name their common folder instead, "
                "or ask about them in two runs"
            )
    return photos


def _named(name: str, urls: bool) -> list[Photo]:
    """The pictures that one word of the line names; raises ValueError if there are none."""
    path = Path(name)
    if name.startswith(ADDRESS):
        if not urls:
            raise ValueError(f"{name}: is a web address; add --urls to fetch pictures")
        return [Photo(name, Path(PurePosixPath(urlsplit(name).path).stem or "picture"))]
    if path.is_dir():
        found = [Photo(path / below, Path(below).with_suffix("")) for below in images_below(path)]
        if unread := unread_below(path):
            told = f"{path / unread[0]}: is in a format that is not read, and is left out ({len(unread)} like this)"
            print(f"note: {told}; save such pictures as JPEG or PNG", file=sys.stderr)
    elif path.exists():
        found = [Photo(path, Path(path.stem))]
    else:
        found = [Photo(p, Path(p.stem)) for p in map(Path, sorted(glob.glob(name, recursive=True))) if p.is_file()]
    if not found:
        raise ValueError(f"{name}: no such picture, or a folder or pattern without any ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return found


def _progress(photos: Sequence[Photo]) -> Iterator[Photo]:
    """The photos one by one, while a line on the standard error says how far it has come, if that is a terminal."""
    start = time.monotonic()
    for done, photo in enumerate(photos):
        left = f", {(time.monotonic() - start) / done * (len(photos) - done):.0f} s left" if done else ""
        _show(f"[{done + 1}/{len(photos)}{left}] {photo.path}")
        yield photo
    _show("")


def _show(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def _load(options: argparse.Namespace) -> Predictor:
    import torch

    import xdecoder

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    device = options.device or ("cuda" if gpus else "cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ValueError("--device mps: this is no Mac with Apple's GPU; try cpu")
    if device.startswith("cuda") and int(device.partition(":")[2] or 0) >= gpus:
        raise ValueError(
            f"--device {device}: there {'is 1 usable GPU' if gpus == 1 else f'are {gpus} usable GPUs'} here; try cpu"
        )
    half = torch.bfloat16 if device == "cpu" else torch.float16
    dtype = half if options.half else torch.float32
    if options.checkpoint is None:
        print(f"asking {shipped.NAME}, the network inside the package", file=sys.stderr)
    model = xdecoder.load(options.checkpoint, device, dtype, allow_nonfinite=options.allow_nonfinite)
    if model.limits:
        print(f"note: {model.limits}", file=sys.stderr)
    return model


def _complain(error: BaseException) -> int:
    _show("")
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, (RuntimeError, MemoryError)):
        said = "out of memory; try --half, --tile 1024 or --device cpu"
    elif isinstance(error, OSError) and error.filename:
        said = f"{error.filename}: {error.strerror}"
    print(f"error: {said}", file=sys.stderr)
    return EXIT_ERROR


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence, and where to read on; argparse would print the whole usage."""
        self.exit(EXIT_ERROR, f"error: {message}; see {self.prog} --help\n")


class _Command(_Parser):
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As of any parser, where `@file` stands for the lines of a file, read as every list is."""
        try:
            lines = [line for text in args or () for line in (read_lines(text[1:]) if text.startswith("@") else (text,))]
        except ValueError as error:
            self.exit(EXIT_ERROR, f"error: {error}\n")
        return super().parse_known_args(lines, namespace)


def _parser() -> argparse.ArgumentParser:
    form = partial(argparse.RawDescriptionHelpFormatter, max_help_position=30)
    parser = _Parser(
        prog="xdecoder",
        usage="xdecoder COMMAND IMAGE ... [options]",
        description="Ask an X-Decoder about pictures.",
        epilog=EXAMPLES,
        formatter_class=form,
    )
    parser.add_argument("--version", action="version", version=versions())
    # The blanks make the column as wide as the longest command, which argparse forgets to measure.
    commands = parser.add_subparsers(
        title="commands (each has its own --help)",
        metavar="COMMAND      ",
        prog="xdecoder",
        required=True,
        parser_class=_Command,
    )

    for name, (_, help) in rooms.COMMANDS.items():
        commands.add_parser(name, help=help)  # for the list alone: `main` hands these lines over
    listed = commands.add_parser("weights", help="list the published networks by name, and which are on this disk")
    listed.set_defaults(run=_weights, debug=False)
    shells = commands.add_parser("completion", help='complete commands and options: eval "$(xdecoder completion bash)"')
    shells.add_argument("shell", choices=completion.SHELLS)
    shells.set_defaults(run=lambda options: _completion(options, commands.choices), debug=False)

    inside = shipped.path()
    own = f" (default: {shipped.NAME}, inside the package)" if inside else ""

    def command(name: str, help: str, ask: Ask | None) -> Any:
        description = help[0].upper() + help[1:] + "."
        added = commands.add_parser(
            name,
            help=help,
            description=description,
            formatter_class=form,
        )
        added.add_argument(
            "--checkpoint",
            required=inside is None,
            metavar="FILE",
            help=f"the network: a file, a name of `xdecoder weights`, or an address{own}",
        )
        added.add_argument("--debug", action="store_true", help="show where an error came from")
        added.set_defaults(run=_each_image, ask=ask)
        return added

    def about_images(name: str, help: str, ask: Ask | None) -> Any:
        added = command(name, help, ask)
        added.add_argument(
            "images", nargs="*", metavar="IMAGE", help="files (films too), folders, or patterns like 'photos/**/*.jpg'"
        )
        added.add_argument("--out", type=Path, metavar="FOLDER", help="write JSON and drawings there (default: print JSON)")
        _device(added)
        listed = ", ".join(SAVED)
        added.add_argument("--save", type=_formats, default=SAVED[:2], metavar="A,B", help=f"what --out gets, of {listed}")
        added.add_argument("--resume", action="store_true", help="leave out pictures whose JSON is in --out already")
        added.add_argument("--urls", action="store_true", help="fetch pictures that are named by http:// or https:// as well")
        pictures = "pictures that are encoded together, if of one size (default: %(default)s)"
        added.add_argument("--batch", type=whole(1, 64), default=1, metavar="N", help=pictures)
        added.add_argument("--overlay", action="store_true", help="draw on a transparent ground, without the picture")
        added.add_argument("--no-labels", action="store_true", help="draw no names")
        added.add_argument("--opacity", type=number(0, 1), metavar="A", help="of what is drawn, from 0 to 1")
        added.add_argument("--keep-colors", action="store_true", help="draw on the picture as it is, not greyed")
        return added

    names: dict[str, Any] = {"nargs": "+", "metavar": "NAME"}
    one_of_two: dict[str, Any] = {**names, "default": []}
    tile: dict[str, Any] = {
        "type": whole(64, 65536),
        "metavar": "PIXELS",
        "help": "cut pictures larger than this into overlapping tiles",
    }

    added = about_images("segment", "give each pixel a class", _segment)
    added.add_argument("--classes", **names, required=True, help="what there may be in the pictures")
    _threshold(added, 0.0, "leave pixels whose best class is less likely without a class")
    added.add_argument("--tile", **tile)

    added = about_images("panoptic", "give each pixel a class, and each thing its own segment", _panoptic)
    added.add_argument("--things", **one_of_two, help="what is counted one by one")
    added.add_argument("--stuff", **one_of_two, help="what is one region each")
    _threshold(added, None, "least score of a segment")
    added.add_argument("--tile", **tile)

    added = about_images("instances", "find each thing of some classes", _instances)
    added.add_argument("--classes", **names, required=True, help="what to look for")
    _threshold(added, 0.5, "least score of an instance")

    added = about_images("refer", "find what phrases mean", _refer)
    added.add_argument("--phrases", nargs="+", metavar="TEXT", required=True, help="such as 'the cup on the left'")
    added.add_argument(
        "--all", action="store_true", help="find all that a phrase means, one by one, and not the likeliest alone"
    )
    _threshold(added, None, SIMILARITY, least=-1.0)

    added = about_images("everything", "find all regions, whatever they are", _everything)
    added.add_argument("--names", **one_of_two, help="what they may be called (default: they get numbers)")

    added = about_images("caption", "describe pictures, or a region of one", _caption)
    added.add_argument(
        "--beams", type=whole(1, 64), default=1, metavar="N", help="width of the beam search (default: 1, greedy)"
    )
    added.add_argument("--region", type=Path, metavar="MASK", help="a picture that is black outside of what is to be described")

    added = about_images("retrieve", "find the picture, and the place in it, that fits a text best", None)
    added.add_argument("--text", required=True, help="such as 'pizza on the plate'")
    added.set_defaults(run=_retrieve)

    added = about_images("ask", "answer a question; needs a network that was tuned for questions", _ask)
    added.add_argument("--question", required=True, metavar="TEXT", help="such as 'what colour is the cup?'")

    added = about_images("edit", "change pictures as an instruction says; the edited picture is written to --out", _edit)
    added.add_argument("instruction", metavar="INSTRUCTION", help="such as 'replace the left cup with a vase of tulips'")
    _inpainter(added)
    _threshold(added, None, SIMILARITY, least=-1.0)

    added = command("track", "find objects that are marked on one frame of a film in all of its frames", None)
    added.add_argument("film", type=Path, metavar="FILM", help="such as video.mp4; needs the extra `video`")
    clicks = "pixels of one object, x before y; once more for each further object"
    added.add_argument("--click", type=_coordinates(2), nargs="+", action="append", metavar="X,Y", help=clicks)
    added.add_argument(
        "--box", type=_coordinates(4), action="append", metavar="X0,Y0,X1,Y1", help="around an object; may repeat"
    )
    added.add_argument(
        "--frame", type=whole(0, 10**9), default=0, metavar="N", help="the frame that is marked, from 0 (default: 0)"
    )
    added.add_argument(
        "--out", type=Path, metavar="FILM", help="the film with the objects drawn, without sound: .mp4, .webm, …"
    )
    masks = "masks, a PNG a frame in a folder, or lines of JSON in FILE.jsonl; an interrupted command goes on from them"
    added.add_argument("--masks", type=Path, metavar="PLACE", help=masks)
    _threshold(added, -1.0, "similarity, -1 to 1, below which an object counts as not there", least=-1.0)
    _device(added)
    added.set_defaults(run=_track)

    added = command("serve-mcp", "give language models tools to look at pictures with, over the Model Context Protocol", None)
    added.add_argument(
        "--http", type=whole(0, 65535), metavar="PORT", help="serve at http://127.0.0.1:PORT/mcp (default: standard input)"
    )
    added.add_argument("--root", type=Path, metavar="FOLDER", help="pictures below it may be opened (default: none)")
    added.add_argument(
        "--seconds", type=number(0.001, 86400), default=120.0, metavar="S", help="most time of a call (default: %(default)s)"
    )
    _threshold(added, None, SIMILARITY, least=-1.0)
    _inpainter(added)
    _device(added)
    added.set_defaults(run=_serve_mcp)

    added = command("serve-http", "answer requests over HTTP; /docs describes them", None)
    added.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: %(default)s)")
    added.add_argument("--port", type=whole(0, 65535), default=8000, help="(default: %(default)s)")
    added.add_argument(
        "--batch", type=whole(1, 256), default=8, metavar="N", help="requests computed together (default: %(default)s)"
    )
    added.add_argument(
        "--seconds", type=number(0.001, 86400), default=60.0, metavar="S", help="most time of a request (default: %(default)s)"
    )
    _device(added)
    added.set_defaults(run=_serve_http)

    added = command("index", "make a folder of pictures ready to be searched; goes on where it was interrupted", None)
    added.add_argument("folder", type=Path, metavar="FOLDER", help="the pictures in and below it")
    added.add_argument("--out", type=Path, required=True, metavar="INDEX", help="folder of the index; may be there already")
    added.add_argument("--no-regions", action="store_true", help="index pictures alone, not their regions")
    _device(added)
    added.set_defaults(run=_index)

    added = command("search", "find the pictures of an index that fit a text", None)
    added.add_argument("index", type=Path, metavar="INDEX", help="what `xdecoder index` has made")
    added.add_argument("text", metavar="TEXT", help="such as 'a red cube left of a star'")
    added.add_argument("--count", type=whole(1, 10000), default=10, metavar="N", help="(default: %(default)s)")
    added.add_argument("--regions", action="store_true", help="compare with regions, not with whole pictures")
    added.add_argument("--faiss", action="store_true", help="let faiss look for the nearest")
    added.add_argument("--out", type=Path, metavar="FOLDER", help="draw the pictures there, with what the text means marked")
    _device(added)
    added.set_defaults(run=_search)

    added = command("label", "give the masks of a COCO JSON, such as SAM's, the likeliest of some names", None)
    added.add_argument("file", type=Path, metavar="FILE", help="its annotations need image_id and segmentation")
    added.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="where its pictures lie")
    added.add_argument("--names", **names, required=True, help="what the masks may show")
    added.add_argument("--out", type=Path, required=True, metavar="FILE", help="the same JSON with categories and scores")
    _device(added)
    added.set_defaults(run=_label)

    added = commands.add_parser("inspect", help="say what a checkpoint is, without building its network", formatter_class=form)
    added.add_argument("file", type=Path, metavar="FILE", help="a network or a training state, of ours or somebody else's")
    added.add_argument("--debug", action="store_true", help="show where an error came from")
    added.set_defaults(run=_inspect)

    added = command("export", "write the segmentation path for serving, as .onnx or .pt2", None)
    added.add_argument("--out", type=Path, required=True, metavar="FILE", help="model.onnx, or model.pt2 for PyTorch alone")
    sides: dict[str, Any] = {"nargs": 2, "type": whole(32, 8192), "metavar": ("HEIGHT", "WIDTH")}
    added.add_argument("--size", **sides, help="of all pictures, for a smaller graph (default: any multiples of 32)")
    added.add_argument("--things", **one_of_two, help="a vocabulary whose text vectors are written beside it")
    added.add_argument("--stuff", **one_of_two, help="its classes that are one region each")
    added.set_defaults(run=_export)
    return parser


def versions() -> str:
    """What a report of a fault should name: versions of this package, Python, the parts that compute, and the system."""
    parts = [f"{name} {version(name)}" for name in ("torch", "torchvision", "numpy")]
    return f"xdecoder {__version__} (Python {platform.python_version()}, {', '.join(parts)}, {platform.platform(terse=True)})"


def _device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", type=_device_name, metavar="NAME", help="cpu, cuda, cuda:1 or mps (default: cuda, if any)")
    parser.add_argument("--half", action="store_true", help="compute in 16 bits")
    parser.add_argument("--allow-nonfinite", action="store_true", help="take weights that are infinite or not a number")


def _device_name(text: str) -> str:
    if not re.fullmatch(r"cpu|mps|cuda(:\d{1,3})?", text):
        raise argparse.ArgumentTypeError(f"expected cpu, cuda, cuda:1 or mps, not {text!r}")
    return text


def _coordinates(count: int) -> Callable[[str], tuple[float, ...]]:
    """A type of argument: so many numbers with commas between them."""

    def parse(text: str) -> tuple[float, ...]:
        with suppress(ValueError):
            numbers = tuple(float(part) for part in text.split(","))
            if len(numbers) == count and all(abs(number) < 10**6 for number in numbers):
                return numbers
        raise argparse.ArgumentTypeError(f"expected {count} numbers with commas between them, not {text!r}")

    return parse


def _inpainter(parser: argparse.ArgumentParser) -> None:
    painting = "a diffusers network that paints new things: a folder, or a name on the Hub (default: only fill and filters)"
    parser.add_argument("--inpainter", metavar="NAME", help=painting)


def _formats(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in SAVED]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown format {unknown[0]!r}; known are {', '.join(SAVED)}")
    return names


def _threshold(parser: argparse.ArgumentParser, default: float | None, help: str, least: float = 0.0) -> None:
    known = "as the network was measured" if default is None else "%(default)s"
    kind = number(least, 1.0)
    parser.add_argument("--threshold", type=kind, default=default, metavar="P", help=f"{help} (default: {known})")
