"""Talk with a language model that looks at your pictures through a network's eyes.

python demo/chat.py --llm http://127.0.0.1:8000/v1 --model NAME [--checkpoint FILE] [photo.jpg ...]

Any server that speaks OpenAI's protocol with tools will do (vLLM, llama.cpp, Ollama, LM Studio, OpenAI); its key, if it wants
one, is read from OPENAI_API_KEY. Type what you want to know; `/open FILE` hands over another picture, `/quit` ends. Drawings,
edited pictures and the transcript go to --out. Removing things needs `pip install '.[edit]'`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the rooms beside the library are not installed

from PIL import Image

import xdecoder
from demo.conversation import Conversation, LanguageModel
from trainer import distributed
from trainer.commands import guarded
from xdecoder import editing
from xdecoder.arguments import number
from xdecoder.config import ConfigError
from xdecoder.files import atomic
from xdecoder.serving.session import Session
from xdecoder.serving.tools import Tools

QUICKSTART = ROOT / "runs/quickstart/model.pt"


def main(arguments: Sequence[str] | None = None, lines: Iterable[str] | None = None) -> int:
    """Read the command line and talk until the lines end; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return guarded(lambda: _main(arguments, sys.stdin if lines is None else lines), debug="--debug" in arguments)


def _main(arguments: Sequence[str], lines: Iterable[str]) -> int:
    options = _parser().parse_args(arguments)
    source = options.checkpoint or QUICKSTART
    if not options.checkpoint and not QUICKSTART.is_file():
        raise ConfigError("no network is named; add --checkpoint FILE, or run `make quickstart` first")
    device = distributed.pick_device("auto", distributed.detect(os.environ))
    predictor = xdecoder.load(source, device)
    inpainter = editing.load_inpainter(options.inpainter, str(device)) if options.inpainter else None
    language_model = LanguageModel(options.llm, options.model, os.environ.get("OPENAI_API_KEY"), options.seconds)
    with tempfile.TemporaryDirectory() as folder:
        tools = Tools(Session(predictor, Path(folder)), inpainter, editing.EditConfig(cosine=options.threshold))
        talk(Conversation(language_model, tools), options.images, lines, options.out)
    return 0


def talk(conversation: Conversation, images: Sequence[Path], lines: Iterable[str], out: Path) -> None:
    """Hand over the pictures, then answer line by line; what goes wrong is told, and the talk goes on."""
    drawn = 0
    for line in (*(f"/open {image}" for image in images), *_prompted(lines)):
        said = line.strip()
        if said in ("/quit", "/exit"):
            break
        try:
            if said.startswith("/open "):
                print(_open(conversation, Path(said.removeprefix("/open ").strip())))
            elif said:
                turn = conversation.say(said)
                for tool, image in turn.images:
                    drawn += 1
                    print(_saved(image, out / f"{drawn:03d}_{tool}.png"))
                print(turn.text)
        except ValueError as error:
            print(f"error: {error}")
        conversation.save(out / "transcript.json")


def _prompted(lines: Iterable[str]) -> Iterable[str]:
    """The lines; a person at a terminal sees that it is their turn."""
    shown = "> " if lines is sys.stdin and sys.stdin.isatty() else ""
    print(end=shown, flush=True)
    for line in lines:
        yield line
        print(end=shown, flush=True)


def _open(conversation: Conversation, path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    return f"{path} is {conversation.show(data, path.name)}"


def _saved(image: Image.Image, path: Path) -> Path:
    with atomic(path) as file:
        image.save(file, "PNG")
    return path


def _parser() -> argparse.ArgumentParser:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, epilog=epilog, formatter_class=form)
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="pictures to begin with")
    parser.add_argument("--llm", required=True, metavar="ADDRESS", help="the server, such as http://127.0.0.1:8000/v1")
    parser.add_argument("--model", required=True, metavar="NAME", help="as the server knows it")
    parser.add_argument("--checkpoint", metavar="FILE", help="a network of ours or a published one (default: the quickstart's)")
    parser.add_argument("--inpainter", metavar="NAME", help="a diffusers network that paints new things (default: none)")
    kind, least = number(-1.0, 1.0), "least cosine of a phrase and its region (default: the network's own)"
    parser.add_argument("--threshold", type=kind, metavar="P", help=least)
    parser.add_argument(
        "--seconds", type=number(0.001, 86400), default=120.0, metavar="S", help="most time of an answer (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("output/chat"), metavar="FOLDER", help="(default: %(default)s)")
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    return parser


if __name__ == "__main__":
    sys.exit(main())
