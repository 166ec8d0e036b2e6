"""Measure a trained experiment: python eval.py CONFIG [key=value ...] [--checkpoint FILE]

The published command line works too: python eval.py evaluate --conf_files CONFIG --overrides WEIGHT FILE
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from datetime import timedelta

from trainer import distributed
from trainer.commands import experiment_parser, run
from trainer.evaluation import evaluate, table
from trainer.experiment import ExperimentConfig, load_model
from trainer.results import record
from xdecoder.files import write_json


def measure(config: ExperimentConfig, options: argparse.Namespace) -> int:
    start = time.monotonic()
    world = distributed.detect(os.environ)
    device = distributed.pick_device(config.trainer.device, world)
    with distributed.group(world, device, os.environ, timedelta(seconds=config.trainer.rendezvous_seconds)):
        model = load_model(config, options.checkpoint, device)
        evaluation = evaluate(model, config, device, world)
    if world.is_main:
        record(config.output, {**evaluation.results, "seconds/evaluate": time.monotonic() - start})
        write_json(config.output / "protocol.json", evaluation.protocol)
        print(table(evaluation.results))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = experiment_parser("Measure a trained network on the experiment's evaluation sets.")
    parser.add_argument("--checkpoint", metavar="FILE", help="the network: a path or an address (default: the run's)")
    return run(measure, parser, arguments, os.environ)


if __name__ == "__main__":
    sys.exit(main())
