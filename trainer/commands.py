"""What train.py and eval.py share: their arguments, and errors told in one sentence."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch

from datasets.streams import describe_own
from trainer import distributed, published, published_sed
from trainer.experiment import ExperimentConfig
from trainer.heartbeat import RankLostError
from trainer.meter import NonFiniteError
from xdecoder import memory
from xdecoder.config import ConfigError, load
from xdecoder.published import commands as published_line

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


def experiment_parser(description: str) -> argparse.ArgumentParser:
    """A parser that knows the experiment file, its overrides and --debug."""
    parser = argparse.ArgumentParser(description=description)
    add_experiment(parser)
    return parser


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """Let a parser know the experiment file, its overrides and --debug."""
    parser.add_argument("config", help="the experiment, a YAML file such as configs/shapes/quickstart.yaml")
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="key.sub=value",
        help="settings laid over the file's, such as trainer.steps=500 or data.train.0.batch_size=8",
    )
    parser.add_argument("--debug", action="store_true", help="show where an error came from")


def run(
    command: Callable[[ExperimentConfig, argparse.Namespace], int],
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Read the arguments and the experiment, and run `command`; its exit status, or 2 after an error told on stderr.

    The published command line (`evaluate --conf_files FILE --overrides KEY VALUE …`) is understood as well.

    Args:
        environment: says how many processes there are, and in DETECTRON2_DATASETS where the data lie for published files.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        parser.print_help(sys.stderr)
        return EXIT_ERROR

    def work() -> int:
        config, options = _read(parser, arguments, environment)
        for line in describe_own(config.data):
            if distributed.detect(environment).is_main:
                print(line)
        return command(config, options)

    return guarded(work, debug="--debug" in arguments)


def guarded(work: Callable[[], int], debug: bool = False) -> int:
    """Do the work; what goes wrong is told in one sentence, and is the exit status."""
    try:
        return work()
    except (ValueError, OSError, NonFiniteError, RankLostError, MemoryError, RuntimeError) as error:
        if debug or (isinstance(error, RuntimeError) and not memory.ran_out(error)):
            raise
        print(f"error: {sentence(error)}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _read(
    parser: argparse.ArgumentParser, arguments: Sequence[str], environment: Mapping[str, str]
) -> tuple[ExperimentConfig, argparse.Namespace]:
    """The experiment and the options, from a line of either grammar."""
    if published_sed.is_published(arguments):
        return _read_sed(parser, arguments, environment)
    if not published_line.is_published(arguments):
        options = parser.parse_intermixed_args(arguments)
        return load(ExperimentConfig, options.config, options.settings), options
    line = published_line.parse(arguments)
    script = "evaluate" if "datasets" in parser.parse_intermixed_args([line.files[-1]]) else "train"
    if line.word not in (None, script):
        other = "train.py" if script == "evaluate" else "eval.py"
        raise ConfigError(f"{line.word}: this script can only {script}; use {other}")
    experiment = published.read(line, distributed.detect(environment).size, environment.get("DETECTRON2_DATASETS"))
    options = parser.parse_intermixed_args([line.files[-1], *line.rest])
    if script == "train":
        start = {"weights": experiment.weights} if experiment.weights else {}
        return experiment.config.model_copy(update=start), options
    if vars(options).get("checkpoint") is None:
        options.checkpoint = experiment.weights
    return experiment.config, options


def _read_sed(
    parser: argparse.ArgumentParser, arguments: Sequence[str], environment: Mapping[str, str]
) -> tuple[ExperimentConfig, argparse.Namespace]:
    """The same of a line of SED's."""
    line = published_sed.parse_line(arguments)
    options = parser.parse_intermixed_args([line.file, *line.rest])
    if line.measures != ("datasets" in options):
        other = "eval.py" if line.measures else "train.py"
        raise ConfigError(f"this line {'measures' if line.measures else 'trains'}; use {other}")
    config, weights = published_sed.read(line, environment.get("DETECTRON2_DATASETS"))
    if not line.measures:
        return config.model_copy(update={"weights": weights}), options
    options.checkpoint = options.checkpoint or weights
    return config, options


def sentence(error: BaseException) -> str:
    """An error as one line that says what to do, where we know."""
    if isinstance(error, torch.OutOfMemoryError):
        return "the GPU has too little memory; lower batch_size and raise trainer.accumulation by as much"
    if memory.ran_out(error):
        return "this machine has too little memory; lower batch_size and raise trainer.accumulation by as much"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__
