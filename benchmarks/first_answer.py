"""How long the first answer takes in a new process, beside the import of PyTorch alone.

python benchmarks/first_answer.py [--checkpoint FILE] [--image FILE]

Each is a new process, taken in turn; seconds of the clock, and of the processor, which a busy machine does not change.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import measure
import torch

from trainer.experiment import ExperimentConfig
from xdecoder import checkpoint
from xdecoder.config import load

ROOT = Path(__file__).resolve().parent.parent
TIMED = "import time; start = time.perf_counter(); {work}; print(time.perf_counter() - start, time.process_time())"
ANSWER = "import xdecoder; xdecoder.load({network!r}).panoptic({image!r}, ['cup'], ['table'])"


def timed(work: str, threads: int) -> tuple[float, float]:
    """Seconds of the clock and of the processor that a new process takes for a line of Python."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", TIMED.format(work=work)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
    clock, processor = map(float, done.stdout.splitlines()[-1].split())
    return clock, processor


def main() -> None:
    options = measure.parser(__doc__)
    options.set_defaults(threads=1)
    options.add_argument("--checkpoint", type=Path, help="(default: the quickstart's architecture, seeded)")
    options.add_argument("--image", type=Path, default=ROOT / "demo/photos/coffee.jpg", help="(default: %(default)s)")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        network = given.checkpoint or Path(folder) / "model.pt"
        if not given.checkpoint:
            torch.manual_seed(0)
            checkpoint.save(load(ExperimentConfig, ROOT / "configs/shapes/quickstart.yaml").model.build(), network)
        works = {
            "import torch": "import torch",
            "load and first answer": ANSWER.format(network=str(network), image=str(given.image)),
        }
        rounds = [{name: timed(work, given.threads) for name, work in works.items()} for _ in range(given.repeats)]
    measure.report(
        {
            name: {
                "seconds": statistics.median(each[name][0] for each in rounds),
                "processor seconds": statistics.median(each[name][1] for each in rounds),
            }
            for name in works
        }
    )


if __name__ == "__main__":
    main()
