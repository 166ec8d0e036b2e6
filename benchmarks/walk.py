"""How far a reader walks to follow one training step of the quickstart: python benchmarks/walk.py [--list]

The third step is run under `sys.setprofile`. Of each function of ours that it enters the first call counts, since a reader
reads it once: files are the files of these functions, changes of file how often the next new function stands in another file
than the one before. What draws the samples is left out, with all that it calls; `--without` leaves out tasks. `--list` prints
the walk.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch

from datasets.prepare.shapes import prepare
from trainer.distributed import ALONE
from trainer.experiment import ExperimentConfig, build_trainer
from xdecoder.config import load

ROOMS = ("xdecoder", "trainer")
LOADING = ROOT / "datasets"
STEP = 3  # caches are filled, and nothing is set up any more


class Walk:
    """Functions of ours in the order in which they are entered for the first time."""

    def __init__(self) -> None:
        self.functions: list[tuple[str, str]] = []
        self._seen: set[CodeType] = set()
        self._loading: FrameType | None = None  # the outermost call into what draws samples

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if self._loading is not None:
            if event == "return" and frame is self._loading:
                self._loading = None
            return
        code = frame.f_code
        path = Path(code.co_filename)
        if event == "call" and path.is_relative_to(LOADING):
            self._loading = frame
        if event != "call" or code in self._seen or self._loading is not None:
            return
        self._seen.add(code)
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in ROOMS and not code.co_name.startswith("<"):
            self.functions.append((path.relative_to(ROOT).as_posix(), code.co_qualname))

    @property
    def files(self) -> list[str]:
        return list(dict.fromkeys(file for file, _ in self.functions))

    @property
    def changes(self) -> int:
        return sum(a != b for (a, _), (b, _) in zip(self.functions, self.functions[1:], strict=False))


def walk(folder: Path, without: tuple[str, ...] = ()) -> Walk:
    """The walk of one step of the quickstart, with a few generated scenes below `folder` and without some tasks."""
    prepare(folder, train=32, val=1, novel=1)
    settings = [f"data.root={folder}", f"output={folder / 'run'}", f"trainer.steps={STEP}", "trainer.device=cpu"]
    config = load(ExperimentConfig, ROOT / "configs/shapes/quickstart.yaml", [*settings, "trainer.log_every=1000"])
    data = config.data
    train = [s.model_copy(update={"tasks": tuple(task for task in s.tasks if task not in without)}) for s in data.train]
    data = data.model_copy(update={"train": tuple(stream for stream in train if stream.tasks)})
    config = config.model_copy(update={"data": data})
    trainer, found, done = build_trainer(config, torch.device("cpu"), ALONE), Walk(), 0

    def step_done() -> None:
        nonlocal done
        done += 1
        sys.setprofile(found if done == STEP - 1 else None)

    trainer.train(step_done)
    sys.setprofile(None)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="print the functions, in order")
    parser.add_argument("--without", nargs="*", default=[], metavar="TASK", help="leave out tasks of the quickstart")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = walk(Path(folder), tuple(options.without))
    if options.list:
        for file, function in found.functions:
            print(f"{file:<44} {function}")
    print(f"{len(found.functions)} functions in {len(found.files)} files, {found.changes} changes of file")
    return 0


if __name__ == "__main__":
    sys.exit(main())
