"""The command line, option by option."""

from __future__ import annotations

import argparse
import difflib
import platform
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from xdecoder import __version__, rooms, shipped
from xdecoder.arguments import number, whole
from xdecoder.cli import asking, completion
from xdecoder.cli import commands as work
from xdecoder.cli.asking import Ask
from xdecoder.cli.terminal import EXIT_ERROR
from xdecoder.defaults import LEAST_SCORE
from xdecoder.files import read_lines

NAMING = ("--classes", "--things", "--names", "--labels", "--phrases", "--texts", "--prompts")
"""What commands call the names that they are to look for, here and elsewhere."""
SAVED = ("json", "png", "coco", "yolo", "labelstudio", "geojson")
"""What --save writes for each picture; of COCO one file for all, and of YOLO the names besides."""
SIMILARITY = "least similarity, -1 to 1, of a phrase and its region; -1 finds something for each"

NAMES: dict[str, Any] = {"nargs": "+", "metavar": "NAME"}
ONE_OF_TWO: dict[str, Any] = {**NAMES, "default": []}
TILE: dict[str, Any] = {
    "type": whole(64, 65536),
    "metavar": "PIXELS",
    "help": "cut pictures larger than this into overlapping tiles",
}
_form = partial(argparse.RawDescriptionHelpFormatter, max_help_position=30)

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
        found, left = super().parse_known_args(lines, namespace)
        if isinstance(getattr(found, "images", None), list) and not any(word.startswith("-") for word in left):
            found.images += left  # pictures that stand behind an option
        elif left:
            self.error(self._unexpected(left[0]))
        return found, []

    def _unexpected(self, word: str) -> str:
        """What is wrong with a word that the command has no use for, and what somebody may have meant by it."""
        if not word.startswith("-"):
            return f"{word!r} is one word too many; put what belongs together in quotes"
        option = word.partition("=")[0]
        if any(action.dest == option.strip("-").replace("-", "_") for action in self._get_positional_actions()):
            return f"unknown option {option}; what it would say is written without it"
        own = [name for action in self._get_optional_actions() for name in action.option_strings]
        alike = [name for name in ("--things", "--classes", "--phrases") if name in own]
        close = alike[:1] if option in NAMING else difflib.get_close_matches(option, own, n=1)
        return f"unknown option {option}{f'; did you mean {close[0]}?' if close else ''}"


def parser_of_all() -> argparse.ArgumentParser:
    """What reads a command line, all commands with all their options."""
    parser = _Parser(
        prog="xdecoder",
        usage="xdecoder COMMAND IMAGE ... [options]",
        description="Ask an X-Decoder about pictures.",
        epilog=EXAMPLES,
        formatter_class=_form,
    )
    parser.add_argument("--version", action="version", version=versions())
    commands = _Commands(parser)
    for name, (_, help) in rooms.COMMANDS.items():
        commands.bare(name, help)  # for the list alone: `main` hands these lines over
    for add in (_about_us, _segmenting, _finding, _telling, _films, _servers, _folders, _files):
        add(commands)
    return parser


class _Commands:
    """The commands, as they are added."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        # The blanks make the column as wide as the longest command, which argparse forgets to measure.
        self._added: Any = parser.add_subparsers(
            title="commands (each has its own --help)",
            metavar="COMMAND      ",
            prog="xdecoder",
            required=True,
            parser_class=_Command,
        )

    @property
    def parsers(self) -> Mapping[str, argparse.ArgumentParser]:
        """By command, what reads its line."""
        found: Mapping[str, argparse.ArgumentParser] = self._added.choices
        return found

    def bare(self, name: str, help: str) -> Any:
        """A command that asks no network."""
        description = help[0].upper() + help[1:] + "."
        added = self._added.add_parser(name, help=help, description=description, formatter_class=_form)
        added.add_argument("--debug", action="store_true", help="show where an error came from")
        return added

    def command(self, name: str, help: str) -> Any:
        """A command that asks a network."""
        inside = shipped.path()
        own = f" (default: {shipped.NAME}, inside the package)" if inside else ""
        added = self.bare(name, help)
        added.add_argument(
            "--checkpoint",
            required=inside is None,
            metavar="FILE",
            help=f"the network: a file, a name of `xdecoder weights`, or an address{own}",
        )
        return added

    def about_images(self, name: str, help: str, ask: Ask | None) -> Any:
        """A command that asks a network the same about each of some pictures."""
        added = self.command(name, help)
        added.set_defaults(run=asking.each_image, ask=ask)
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


def _about_us(commands: _Commands) -> None:
    added = commands.bare("weights", "list the published networks by name, and which are on this disk")
    added.set_defaults(run=work.list_weights)
    added = commands.bare("completion", 'complete commands and options: eval "$(xdecoder completion bash)"')
    added.add_argument("shell", choices=completion.SHELLS)
    added.set_defaults(run=lambda options: work.complete(options, commands.parsers))


def _segmenting(commands: _Commands) -> None:
    added = commands.about_images("segment", "give each pixel a class", asking.segment)
    added.add_argument("--classes", **NAMES, required=True, help="what there may be in the pictures")
    _threshold(added, 0.0, "leave pixels whose best class is less likely without a class")
    added.add_argument("--tile", **TILE)

    added = commands.about_images("panoptic", "give each pixel a class, and each thing its own segment", asking.panoptic)
    added.add_argument("--things", **ONE_OF_TWO, help="what is counted one by one")
    added.add_argument("--stuff", **ONE_OF_TWO, help="what is one region each")
    _threshold(added, None, "least score of a segment")
    added.add_argument("--tile", **TILE)

    added = commands.about_images("instances", "find each thing of some classes", asking.instances)
    added.add_argument("--classes", **NAMES, required=True, help="what to look for")
    _threshold(added, LEAST_SCORE, "least score of an instance")


def _finding(commands: _Commands) -> None:
    added = commands.about_images("refer", "find what phrases mean", asking.refer)
    added.add_argument("--phrases", nargs="+", metavar="TEXT", required=True, help="such as 'the cup on the left'")
    how = added.add_mutually_exclusive_group()
    how.add_argument("--all", action="store_true", help="find all that a phrase means, one by one, and not the likeliest alone")
    how.add_argument(
        "--together", action="store_true", help="read all phrases in one pass, in which they see each other: faster"
    )
    _threshold(added, None, SIMILARITY, least=-1.0)

    added = commands.about_images("everything", "find all regions, whatever they are", asking.everything)
    added.add_argument("--names", **ONE_OF_TWO, help="what they may be called (default: they get numbers)")


def _telling(commands: _Commands) -> None:
    added = commands.about_images("caption", "describe pictures, or a region of one", asking.caption)
    added.add_argument(
        "--beams", type=whole(1, 64), default=1, metavar="N", help="width of the beam search (default: 1, greedy)"
    )
    added.add_argument("--region", type=Path, metavar="MASK", help="a picture that is black outside of what is to be described")

    added = commands.about_images("retrieve", "find the picture, and the place in it, that fits a text best", None)
    added.add_argument("--text", required=True, help="such as 'pizza on the plate'")
    added.set_defaults(run=asking.retrieve)

    added = commands.about_images("ask", "answer a question; needs a network that was tuned for questions", asking.answer)
    added.add_argument("--question", required=True, metavar="TEXT", help="such as 'what colour is the cup?'")

    added = commands.about_images(
        "edit", "change pictures as an instruction says; the edited picture is written to --out", asking.edit
    )
    added.add_argument("instruction", metavar="INSTRUCTION", help="such as 'replace the left cup with a vase of tulips'")
    _inpainter(added)
    _threshold(added, None, SIMILARITY, least=-1.0)


def _films(commands: _Commands) -> None:
    added = commands.command("track", "find objects that are marked on one frame of a film in all of its frames")
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
    added.set_defaults(run=work.track)


def _servers(commands: _Commands) -> None:
    about = "give language models tools to look at pictures with, over the Model Context Protocol"
    added = commands.command("serve-mcp", about)
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
    added.set_defaults(run=work.serve_mcp)

    added = commands.command("serve-http", "answer requests over HTTP; /docs describes them")
    added.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: %(default)s)")
    added.add_argument("--port", type=whole(0, 65535), default=8000, help="(default: %(default)s)")
    added.add_argument(
        "--batch", type=whole(1, 256), default=8, metavar="N", help="requests computed together (default: %(default)s)"
    )
    added.add_argument(
        "--seconds", type=number(0.001, 86400), default=60.0, metavar="S", help="most time of a request (default: %(default)s)"
    )
    _device(added)
    added.set_defaults(run=work.serve_http)


def _folders(commands: _Commands) -> None:
    added = commands.command("index", "make a folder of pictures ready to be searched; goes on where it was interrupted")
    added.add_argument("folder", type=Path, metavar="FOLDER", help="the pictures in and below it")
    added.add_argument("--out", type=Path, required=True, metavar="INDEX", help="folder of the index; may be there already")
    added.add_argument("--no-regions", action="store_true", help="index pictures alone, not their regions")
    _device(added)
    added.set_defaults(run=work.make_index)

    added = commands.command("search", "find the pictures of an index that fit a text")
    added.add_argument("index", type=Path, metavar="INDEX", help="what `xdecoder index` has made")
    added.add_argument("text", metavar="TEXT", help="such as 'a red cube left of a star'")
    added.add_argument("--count", type=whole(1, 10000), default=10, metavar="N", help="(default: %(default)s)")
    added.add_argument("--regions", action="store_true", help="compare with regions, not with whole pictures")
    added.add_argument("--faiss", action="store_true", help="let faiss look for the nearest")
    added.add_argument("--out", type=Path, metavar="FOLDER", help="draw the pictures there, with what the text means marked")
    _device(added)
    added.set_defaults(run=work.search)

    added = commands.command("label", "give the masks of a COCO JSON, such as SAM's, the likeliest of some names")
    added.add_argument("file", type=Path, metavar="FILE", help="its annotations need image_id and segmentation")
    added.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="where its pictures lie")
    added.add_argument("--names", **NAMES, required=True, help="what the masks may show")
    added.add_argument("--out", type=Path, required=True, metavar="FILE", help="the same JSON with categories and scores")
    _device(added)
    added.set_defaults(run=work.label)


def _files(commands: _Commands) -> None:
    added = commands.bare("inspect", "say what a checkpoint is, without building its network")
    added.add_argument("file", type=Path, metavar="FILE", help="a network or a training state, of ours or somebody else's")
    added.set_defaults(run=work.tell_file)

    added = commands.command("export", "write the segmentation path for serving, as .onnx or .pt2")
    added.add_argument("--out", type=Path, required=True, metavar="FILE", help="model.onnx, or model.pt2 for PyTorch alone")
    sides: dict[str, Any] = {"nargs": 2, "type": whole(32, 8192), "metavar": ("HEIGHT", "WIDTH")}
    added.add_argument("--size", **sides, help="of all pictures, for a smaller graph (default: any multiples of 32)")
    added.add_argument("--things", **ONE_OF_TWO, help="a vocabulary whose text vectors are written beside it")
    added.add_argument("--stuff", **ONE_OF_TWO, help="its classes that are one region each")
    added.set_defaults(run=work.export_network)


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
