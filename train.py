"""Train an experiment: python train.py CONFIG [key=value ...]"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from trainer import distributed
from trainer.commands import EXIT_INTERRUPTED, experiment_parser, run
from trainer.evaluation.evaluation import evaluate
from trainer.experiment import ExperimentConfig, build_trainer, finish, open_run
from trainer.lock import locked
from trainer.profiling import traced_steps
from xdecoder.arguments import whole


def train(config: ExperimentConfig, options: argparse.Namespace) -> int:
    world = distributed.detect(os.environ)
    device = distributed.pick_device(config.trainer.device, world)
    with (
        distributed.group(world, device, os.environ, *config.trainer.patience),
        locked(config.output, world),
    ):
        if not open_run(config, world, options.fresh):
            if world.is_main:
                print(f"{config.model_file} is trained already; --fresh trains it anew")
            return 0
        trainer = build_trainer(
            config, device, world, lambda model, names: evaluate(model, config, device, world, names).results
        )
        if world.is_main and trainer.step:
            print(f"going on from step {trainer.step} of {config.trainer.steps}")
        trace = config.output / f"trace_{trainer.step:08}_rank{world.rank}.json"
        with traced_steps(trace, options.profile) as step_done:
            finished = trainer.train(step_done)
        if not finished:
            print(f"stopped after step {trainer.step} of {config.trainer.steps}; the same command goes on from there")
            return EXIT_INTERRUPTED
        finish(config, trainer)
        if world.is_main and trainer.step < config.trainer.steps:
            best = f"{config.trainer.keep_best} was not better than {trainer.best:.4g} in {trainer.waited} evaluations"
            print(f"stopped after step {trainer.step} of {config.trainer.steps}: {best} (checkpoints/best.pt)")
        if world.is_main:
            print(f"{config.model_file}: trained for {trainer.seconds:.0f} s")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = experiment_parser("Train an experiment, or go on with one that was interrupted.")
    parser.add_argument("--fresh", action="store_true", help="begin anew; an old run folder is kept under another name")
    parser.add_argument(
        "--profile",
        type=whole(0, 10_000),
        default=0,
        metavar="N",
        help="trace N steps, after two to warm up, into the run folder",
    )
    return run(train, parser, arguments, os.environ)


if __name__ == "__main__":
    sys.exit(main())
