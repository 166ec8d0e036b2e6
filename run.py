"""From data to a report in one command: xdecoder train DATA, which checks, trains, measures and draws.

DATA is a COCO JSON, a folder in one of the formats of demo/finetune_own_data.md, Ultralytics' data.yaml, or an experiment's
YAML, which is trained as `train.py` does.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import eval as evaluation
import train as training
from datasets.check import __main__ as doctor
from datasets.readers import own
from trainer.commands import EXIT_ERROR, guarded
from trainer.evaluation import results
from trainer.report import __main__ as reporting
from xdecoder import weights
from xdecoder.config import ConfigError, read_yaml

CONFIGS = Path(__file__).resolve().parent / "configs"
SMALL, CLASSES, LARGE = (CONFIGS / f"finetune/own_{name}.yaml" for name in ("data_small", "classes_small", "data"))
EPOCHS = 60  # of a small set; a large one is seen less often
FEWEST, MOST = 150, 3000  # steps
LOOKS = 5  # how often it is measured while it learns, the last time at the end
HEADLINES = ("PQ", "AP", "mIoU", "top1", "referring_cIoU")


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and do all four; returns the exit status of the first that fails."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="xdecoder train", description="Check data, train on them, measure, and write a report: from one folder, in one go."
    )
    parser.add_argument("data", help="a COCO JSON, a folder, Ultralytics' data.yaml, or an experiment's YAML")
    parser.add_argument("settings", nargs="*", metavar="key.sub=value", help="such as trainer.steps=500")
    parser.add_argument("--weights", metavar="FILE", help="what to begin with: a file, or a name of `xdecoder weights`")
    parser.add_argument("--output", metavar="FOLDER", help="the run folder (default: runs/NAME)")
    parser.add_argument("--fresh", action="store_true", help="begin anew; an old run folder is kept under another name")
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    if not arguments or arguments[0] in ("-h", "--help"):
        parser.parse_args(arguments or ["--help"])
    if is_experiment(arguments[0]):
        return training.main(arguments)
    options = parser.parse_intermixed_args(arguments)
    return guarded(lambda: pipeline(options), debug=options.debug)


def pipeline(options: argparse.Namespace) -> int:
    """Check, train, measure and report; each is told by a line of its own, and the last line says what to do next.

    Raises:
        ConfigError: for data in no known format.
    """
    path = data_path(options.data)
    config, steps = recipe(path, options.weights)
    run = Path(options.output or Path("runs") / path.stem)
    common = [str(config), f"data.own={path}", f"output={run}"]
    common += [f"weights={options.weights or 'null'}", f"trainer.steps={steps}", f"trainer.evaluate_every={steps // LOOKS}"]
    common += options.settings
    print("== check", flush=True)
    if doctor.main([str(path)]) == EXIT_ERROR:
        return EXIT_ERROR
    stages: dict[str, Any] = {
        "train": lambda: training.main([*common, *(["--fresh"] if options.fresh else [])]),
        "measure": lambda: evaluation.main(common),
        "report": lambda: reporting.main([str(run), "--command", shlex.join(["xdecoder", "train", options.data])]),
    }
    for name, work in stages.items():
        print(f"== {name}", flush=True)
        if status := work():
            return int(status)
    print(advice(run, options.weights))
    return 0


def is_experiment(name: str) -> bool:
    """Whether a file is a YAML of ours rather than the description of a data set."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        return name.startswith("-") or name in ("train", "evaluate")
    if not path.is_file():
        raise SystemExit(f"error: {path}: no such file")
    content = read_yaml(path)
    return not {"names", "nc"} & set(content)


def data_path(name: str) -> Path:
    """The folder or JSON that `data.own` takes; of Ultralytics' data.yaml the folder around it."""
    path = Path(name).absolute()
    if not path.exists():
        raise ConfigError(f"{name}: no such folder or file; expected {own.EXPECTED}")
    return path.parent if path.suffix in (".yaml", ".yml") else path


def recipe(path: Path, start: str | None) -> tuple[Path, int]:
    """The experiment for a data set, and how many steps suit its size.

    A published network is fine-tuned as published ones are; without one, a small network learns on whatever machine this is.
    """
    spec = own.find(own.OwnSpec(name=own.NAMES[0], images=str(path), part="train"))
    held = len(spec.read(path)[1])
    if spec.reader == "class_folders":
        config, batch = CLASSES, 16
    else:
        config, batch = (LARGE, 4) if start and weights.named(start) else (SMALL, 8)
    return config, min(max(EPOCHS * held // batch, FEWEST), MOST)


def advice(run: Path, start: str | None) -> str:
    """One line: where the report is, how good the network has become, and what to do now."""
    scores = results.read(run)
    found = [(name, value) for name, value in scores.items() if name.rpartition("/")[2] in HEADLINES and value is not None]
    best = ", ".join(f"{name.rpartition('/')[2]} {value:.1f}" for name, value in found[:2])
    use = f'xdecoder.load("{run / "model.pt"}")'
    if start is None and found and found[0][1] < 30:
        more = "begin with a trained network: --weights focal-t (needs a GPU to be quick), or a model.pt of yours"
    else:
        more = f"use it: {use}"
    worst = run / "evaluation.html"
    return f"{(run / 'report.html').resolve()}: {best or 'no score'}. Next, look at the worst pictures in {worst}; then {more}"


if __name__ == "__main__":
    sys.exit(main())
