"""Measure a checkpoint on any list of data sets: python eval.py CONFIG [key=value ...] [--checkpoint FILE] [--datasets A,B]

python eval.py score CONFIG ... measures predictions that --save-predictions has left, without a network;
python eval.py fit CONFIG ... fits thresholds to the network on the sets of data.fit and writes them into its file;
python eval.py table FILE ... prints results.json files side by side, as the paper does.
The published command line works too: python eval.py evaluate --conf_files CONFIG --overrides WEIGHT FILE
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from trainer import distributed
from trainer.commands import EXIT_ERROR, EXIT_INTERRUPTED, add_experiment, guarded, run
from trainer.evaluation import entry_point, evaluation
from trainer.evaluation.evaluation import Interrupted, table
from trainer.evaluation.suites import choose, paper_table
from trainer.experiment import ExperimentConfig
from xdecoder.arguments import number


def measure(config: ExperimentConfig, options: argparse.Namespace, score: bool = False) -> int:
    start = time.monotonic()
    world = distributed.detect(os.environ)
    device = distributed.pick_device(config.trainer.device, world)
    config = choose(config, options.datasets, options.limit)
    with distributed.group(world, device, os.environ, *config.trainer.patience), ExitStack() as kept:
        source, keeping = entry_point.source(config, options, device, score, kept)
        if options.fresh and world.is_main:
            entry_point.forget(keeping)
        distributed.barrier(world)
        try:
            found = evaluation.measure(source, config, world, keeping, details=True)
        except Interrupted:
            if world.is_main:
                print("stopped; the same command goes on from there")
            return EXIT_INTERRUPTED
    if world.is_main:
        print(table(found.results))
        command = shlex.join(["python", *sys.argv])
        entry_point.finish(found, source, config, options, keeping, command, time.monotonic() - start, world)
    return 0


def fit(config: ExperimentConfig, options: argparse.Namespace) -> int:
    entry_point.fit(config, options, distributed.pick_device(config.trainer.device, distributed.detect(os.environ)))
    return 0


def tabulate(files: Sequence[str]) -> int:
    print(paper_table(files))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser, commands = _parsers()
    if not arguments:
        parser.print_help(sys.stderr)
        return EXIT_ERROR
    if arguments[0] in ("-h", "--help"):
        parser.parse_args(arguments)
    name = arguments.pop(0) if arguments[0] in commands else "measure"
    if name == "table":
        return guarded(lambda: tabulate(commands[name].parse_args(arguments).files))
    command = fit if name == "fit" else partial(measure, score=name == "score")
    return run(command, commands[name], arguments, os.environ)


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The whole command line, for its --help, and each command's own parser."""
    parser = argparse.ArgumentParser(
        description="Measure networks, and what they have said.",
        epilog="A line that begins with an experiment is one of `measure`. The published line works too: "
        "evaluate --conf_files FILE --overrides WEIGHT FILE.",
    )
    commands = parser.add_subparsers(title="commands (each has its own --help)", metavar="COMMAND", required=True)
    measured = commands.add_parser("measure", help="a network on the experiment's evaluation sets, or on any others")
    scored = commands.add_parser("score", help="predictions that --save-predictions has left, without a network")
    for each in (measured, scored):
        add_experiment(each)
        entry_point.add_arguments(each, score=each is scored)
    fitted = commands.add_parser("fit", help="thresholds to a network on the sets of data.fit; they go into its file")
    add_experiment(fitted)
    fitted.add_argument("--checkpoint", metavar="FILE", help="the network (default: the run's)")
    kept = "share of the phrases that mean something which shall be found, in percent (default: %(default)s)"
    fitted.add_argument("--keep", type=number(0.1, 100), default=92.0, metavar="P", help=kept)
    tabulated = commands.add_parser("table", help="results of several runs side by side, as the paper prints them")
    tabulated.add_argument(
        "files", nargs="+", metavar="FILE", help="results.json or evaluation.json, or the folders that hold them"
    )
    return parser, {"measure": measured, "score": scored, "fit": fitted, "table": tabulated}


if __name__ == "__main__":
    sys.exit(main())
