"""Search for good settings with Optuna: many short runs, each with values that the ones before suggest.

python demo/sweep.py CONFIG --score shapes_val/PQ --trials 10 --search trainer.learning_rate=1e-4:1e-2:log \
    tasks.segmentation.class_weight=1:8 [key=value ...]

It needs `pip install '.[sweep]'`. --search names a setting and the range of its values: LEAST:MOST, :log where they differ by
orders of magnitude, whole numbers where both ends are, or one of several, A|B|C. Runs lie below --output, and the study in its
study.db; the same command goes on with it, and `optuna-dashboard sqlite:///FOLDER/study.db` shows it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the rooms beside this one are not installed

from trainer.commands import guarded
from trainer.evaluation import results
from xdecoder.arguments import whole
from xdecoder.config import ConfigError

Suggest = Callable[[Any], Any]
"""A value of one setting, asked of an Optuna trial."""

Run = Callable[[Sequence[str]], int]


def main(arguments: Sequence[str] | None = None, run: Run | None = None) -> int:
    """Read the command line and search; `run` is what starts train.py and eval.py. Returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="the experiment's YAML")
    parser.add_argument("settings", nargs="*", metavar="key.sub=value", help="for all runs, such as trainer.steps=300")
    parser.add_argument("--score", required=True, metavar="NAME", help="a result that is to become high, such as shapes_val/PQ")
    parser.add_argument("--search", nargs="+", required=True, metavar="key.sub=RANGE", help="such as seed=0:9, or a=x|y")
    parser.add_argument(
        "--trials", type=whole(1, 10_000), default=10, metavar="N", help="runs of this command (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/sweep"), metavar="FOLDER", help="(default: %(default)s)")
    options = parser.parse_intermixed_args(arguments)
    return guarded(lambda: search(options, run or _start))


def search(options: argparse.Namespace, run: Run) -> int:
    """Run the trials and print the best; raises ConfigError for what cannot be searched."""
    try:
        import optuna
    except ImportError:
        raise ConfigError("the search needs the package optuna: pip install '.[sweep]'") from None
    ranges = {name: _range(name, text) for name, _, text in (each.partition("=") for each in options.search)}
    options.output.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name="sweep",
        direction="maximize",
        storage=f"sqlite:///{options.output / 'study.db'}",
        load_if_exists=True,
    )
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))  # or a search that goes on would repeat itself

    def score(trial: Any) -> float:
        chosen = [f"{name}={suggest(trial)}" for name, suggest in ranges.items()]
        folder = options.output / f"trial_{trial.number:03}"
        line = [options.config, *options.settings, *chosen, f"output={folder}"]
        for script in ("train.py", "eval.py"):
            if run([script, *line]):
                raise ConfigError(f"{folder}: this run did not end well; see the line above")
        found = results.read(folder)
        if found.get(options.score) is None:
            raise ConfigError(f"--score: no result is called {options.score!r}; there are {', '.join(sorted(found))}")
        return float(found[options.score])

    study.optimize(score, n_trials=options.trials)
    best = " ".join(f"{name}={value}" for name, value in study.best_params.items())
    print(f"best of {len(study.trials)}: {options.score} {study.best_value:.4g} with {best}")
    return 0


def _start(line: Sequence[str]) -> int:
    return subprocess.run([sys.executable, str(ROOT / line[0]), *line[1:]], check=False).returncode


def _range(name: str, text: str) -> Suggest:
    """What asks a trial for a value of a setting."""
    if "|" in text:
        return lambda trial: trial.suggest_categorical(name, text.split("|"))
    least, _, most = text.removesuffix(":log").partition(":")
    try:
        if least.isdigit() and most.isdigit():
            return lambda trial: trial.suggest_int(name, int(least), int(most), log=text.endswith(":log"))
        low, high = float(least), float(most)
    except ValueError:
        raise ConfigError(f"--search {name}={text}: expected LEAST:MOST, LEAST:MOST:log or A|B|C") from None
    return lambda trial: trial.suggest_float(name, low, high, log=text.endswith(":log"))


if __name__ == "__main__":
    sys.exit(main())
