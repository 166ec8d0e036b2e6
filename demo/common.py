"""What the demos share: two command lines, a picture, and where the answer goes.

python demo/demo_semseg.py --checkpoint FILE --images photo.jpg --texts zebra grass
python demo/demo_semseg.py evaluate --conf_files FILE.yaml --overrides WEIGHT FILE      # the published line
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the rooms beside this one are not installed

from PIL import Image

import xdecoder
from trainer import distributed, published
from trainer.commands import guarded
from trainer.experiment import load_model
from xdecoder.arguments import number
from xdecoder.config import ConfigError
from xdecoder.images import open_image
from xdecoder.inference.predictor import Predictor
from xdecoder.published import commands

PHOTO = Path(__file__).resolve().parent / "photos/coffee.jpg"


@dataclass(frozen=True)
class Question:
    """What a demo asks about."""

    images: tuple[Image.Image, ...]
    texts: tuple[str, ...]
    options: argparse.Namespace  # what else stood on the line


Ask = Callable[[Predictor, Question], Image.Image | str]


def main(
    ask: Ask,
    output: str,
    texts: Sequence[str] = (),
    arguments: Sequence[str] | None = None,
    options: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> int:
    """Read the command line, ask, and write the picture or print the sentence; returns the exit status.

    Args:
        output: the name of the picture that is written.
        texts: what is asked about if the line names nothing.
        options: adds what only this demo knows of.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=(ask.__doc__ or "").partition("\n")[0], epilog=__doc__)
    options(parser)
    return guarded(lambda: _main(ask, output, texts, arguments, parser), debug="--debug" in arguments)


def threshold(parser: argparse.ArgumentParser) -> None:
    """The option of demos that look for what a phrase means."""
    least = "least cosine of a phrase and its region; -1 finds something for each (default: the network's own)"
    parser.add_argument("--threshold", type=number(-1.0, 1.0), metavar="P", help=least)


def _main(ask: Ask, output: str, texts: Sequence[str], arguments: Sequence[str], parser: argparse.ArgumentParser) -> int:
    parser.add_argument("--checkpoint", metavar="FILE", help="a network of ours or a published one, a path or an address")
    parser.add_argument("--images", nargs="+", metavar="FILE", help="what to look at (default: a photograph of a cup)")
    known = ", ".join(texts)
    parser.add_argument("--texts", nargs="+", default=list(texts), metavar="TEXT", help=f"what to ask about (default: {known})")
    parser.add_argument("--output", type=Path, default=Path("output") / output, metavar="FILE", help="(default: %(default)s)")
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    device = distributed.pick_device("auto", distributed.detect(os.environ))
    if commands.is_published(arguments):
        line = commands.parse(arguments)
        options = parser.parse_args(line.rest)
        experiment = published.read(line)
        source = experiment.weights or options.checkpoint
        if source is None:
            raise ConfigError("no network is named; add --overrides WEIGHT FILE")
        predictor = Predictor(load_model(experiment.config, source, device))
    else:
        options = parser.parse_args(arguments)
        if options.checkpoint is None:
            raise ConfigError("no network is named; add --checkpoint FILE")
        predictor = xdecoder.load(options.checkpoint, device)
    images = tuple(open_image(path) for path in options.images) if options.images else (open_image(PHOTO),)
    answer = ask(predictor, Question(images, tuple(options.texts), options))
    if isinstance(answer, str):
        print(answer)
    else:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        answer.save(options.output)
        print(options.output)
    return 0
