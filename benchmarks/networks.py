"""What each network costs: weights, seconds and memory for the classes of a picture, by size.

python benchmarks/networks.py [--sizes 512 1024] [--networks xdecoder/focal_t seem/focal_t] [--write docs/latency.md]

Weights are seeded: what a network computes takes as long with any others. The 133 class names of COCO have been read before, as
they are for every picture but the first. Each network has a process of its own. Seconds are the processor's, so that other work
on the machine changes little. --write puts the table into a page, between its two comments.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

import measure
import torch

from trainer.experiment import ExperimentConfig
from xdecoder.config import load, parse
from xdecoder.files import atomic
from xdecoder.inference.predictor import Predictor
from xdecoder.language import vocabularies
from xdecoder.protocol import Protocol
from xdecoder.resizing import ShortestEdge
from xdecoder.tasks import TasksConfig

ROOT = Path(__file__).resolve().parent.parent
NETWORKS = (
    "shapes/quickstart",
    "xdecoder/focal_t",
    "xdecoder/focal_l",
    "xdecoder/davit_d3",
    "xdecoder/davit_d5",
    "seem/focal_t",
    "seem/sam_b",
    "sed/sed_b",
)


def cost(name: str, size: int, threads: int) -> tuple[float, float]:
    """Millions of weights, and seconds for one picture of size × size."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = load(ExperimentConfig, ROOT / f"configs/{name}.yaml").model.empty().eval().requires_grad_(False)
    tasks = parse(TasksConfig, {"segmentation": {"templates": "none"}})  # which only the first picture would notice
    predictor, names = Predictor(model, tasks=tasks), vocabularies.load("coco_133").vocabulary.names
    took = 0.0
    for side in (64, size):  # the first picture is for the names
        model.protocol = Protocol(images={"segmentation": ShortestEdge(size=side, max_size=side)})
        start = time.process_time()
        predictor.segment(measure.image(side, side), names)
        took = time.process_time() - start
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6, took


def table(figures: measure.Figures, sizes: Sequence[int]) -> str:
    """The figures as Markdown."""
    head = ["network", "million weights", *(f"{size} px: seconds, GiB" for size in sizes)]
    rows = [head, ["---"] * len(head)]
    for name, row in figures.items():
        cells = [f"{row[f'seconds {size}']:.1f}, {row[f'GiB {size}']:.1f}" for size in sizes]
        rows.append([f"`configs/{name}.yaml`", f"{row['million weights']:.0f}", *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    options = measure.parser(__doc__)
    options.set_defaults(threads=1)
    options.add_argument("--sizes", type=int, nargs="+", default=(512, 1024), metavar="PIXELS")
    options.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME", help="experiments below configs/")
    options.add_argument("--write", type=Path, metavar="PAGE", help="a page to put the table into")
    given = options.parse_args()
    figures: measure.Figures = {}
    for name in given.networks:
        row = figures.setdefault(name, {})
        for size in given.sizes:
            (millions, took), memory = measure.alone(cost, name, size, given.threads)
            row |= {"million weights": millions, f"seconds {size}": took, f"GiB {size}": memory}
        print(f"{name}: {row}", flush=True)
    measure.report(figures)
    if given.write:
        page = given.write.read_text(encoding="utf-8")
        put = re.compile(r"(<!-- measured -->\n).*?(\n<!-- end -->)", re.DOTALL)
        made = table(figures, given.sizes)
        with atomic(given.write, "w") as file:
            file.write(put.sub(lambda found: found[1] + made + found[2], page))


if __name__ == "__main__":
    main()
