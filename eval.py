"""Measure a checkpoint on any list of data sets: python eval.py CONFIG [key=value ...] [--checkpoint FILE] [--datasets A,B]

python eval.py score CONFIG ... measures predictions that --save-predictions has left, without a network;
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
from datetime import timedelta
from functools import partial

from trainer import distributed
from trainer.commands import EXIT_INTERRUPTED, experiment_parser, guarded, run
from trainer.evaluation import entry_point, evaluation
from trainer.evaluation.evaluation import Interrupted, table
from trainer.evaluation.suites import choose, paper_table
from trainer.experiment import ExperimentConfig


def measure(config: ExperimentConfig, options: argparse.Namespace, score: bool = False) -> int:
    start = time.monotonic()
    world = distributed.detect(os.environ)
    device = distributed.pick_device(config.trainer.device, world)
    config = choose(config, options.datasets, options.limit)
    with distributed.group(world, device, os.environ, timedelta(seconds=config.trainer.rendezvous_seconds)):
        source, keeping = entry_point.source(config, options, device, score)
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


def tabulate(files: Sequence[str]) -> int:
    print(paper_table(files))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["table"]:
        return guarded(lambda: tabulate(arguments[1:]))
    score = arguments[:1] == ["score"]
    parser = experiment_parser("Measure a network on the experiment's evaluation sets, or on any others.")
    parser.add_argument("--checkpoint", metavar="FILE", help="the network: a path or an address (default: the run's)")
    entry_point.add_arguments(parser)
    return run(partial(measure, score=score), parser, arguments[1:] if score else arguments, os.environ)


if __name__ == "__main__":
    sys.exit(main())
