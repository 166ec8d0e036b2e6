"""What train.py and eval.py share: their arguments, and errors told in one sentence."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

import torch

from trainer.experiment import ExperimentConfig
from trainer.meter import NonFiniteError
from xdecoder.config import load

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


def experiment_parser(description: str) -> argparse.ArgumentParser:
    """A parser that knows the experiment file, its overrides and --debug."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("config", help="the experiment, a YAML file such as configs/shapes/quickstart.yaml")
    parser.add_argument(
        "settings", nargs="*", metavar="key.sub=value",
        help="settings laid over the file's, such as trainer.steps=500 or data.train.0.batch_size=8",
    )  # fmt: skip
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    return parser


def run(
    command: Callable[[ExperimentConfig, argparse.Namespace], int],
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None = None,
) -> int:
    """Read the arguments and the experiment, and run `command`; its exit status, or 2 after an error told on stderr."""
    options = parser.parse_intermixed_args(arguments)
    try:
        return command(load(ExperimentConfig, options.config, options.settings), options)
    except (ValueError, OSError, NonFiniteError, torch.OutOfMemoryError) as error:
        if options.debug:
            raise
        print(f"error: {sentence(error)}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def sentence(error: BaseException) -> str:
    """An error as one line that says what to do, where we know."""
    if isinstance(error, torch.OutOfMemoryError):
        return "the GPU has too little memory; lower batch_size and raise trainer.accumulation by as much"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__
