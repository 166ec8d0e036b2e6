"""From nothing to a report: make the generated data, train, measure, draw. What is there already is used again.

python demo/quickstart.py [CONFIG] [key=value ...]
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the rooms beside this one are not installed

import torch

from trainer.commands import experiment_parser, run
from trainer.evaluation.results import read, record
from trainer.experiment import ExperimentConfig

PROCESSES = 2


def quickstart(config: ExperimentConfig, options: object) -> int:
    given = sys.argv[1:]
    stages = {
        "prepare": ["-m", "datasets.prepare", "shapes", "--root", str(config.data.root)],
        "train": [*_launcher(), "train.py", *given],
        "fit": ["eval.py", "fit", *given],
        "evaluate": ["eval.py", *given],
        "report": ["demo/report.py", str(config.output), "--command", "make quickstart"],
    }
    report = config.output / "report.html"
    seconds: dict[str, float] = {}
    for name, arguments in stages.items():
        if name in ("fit", "evaluate", "report") and _is_newer(report, config.model_file):
            continue
        if name == "fit" and not config.data.fit:
            continue
        print(f"== {name}", flush=True)
        start = time.monotonic()
        status = subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False).returncode
        if status:
            return status
        seconds[f"seconds/{name}"] = time.monotonic() - start
    known = read(config.output)
    record(config.output, {name: value for name, value in seconds.items() if name not in known})
    print(f"The report is {report.resolve()}")
    return 0


def _launcher() -> list[str]:
    """Without a GPU, two processes of one thread each: a small network gains little from a second thread."""
    if torch.cuda.is_available() or (os.cpu_count() or 1) < PROCESSES:
        return []
    return ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={PROCESSES}"]


def _is_newer(path: Path, other: Path) -> bool:
    return path.exists() and path.stat().st_mtime > other.stat().st_mtime


if __name__ == "__main__":
    sys.exit(run(quickstart, experiment_parser("Make data, train, measure and report, as `make quickstart` does.")))
