"""Commands that need more than the library: they train, measure, check and report with `datasets/` and `trainer/`.

These rooms are no packages of their own when installed, since `datasets` is the name of another package that many have. pip
lays them into the folder `_rooms` beside this file, and a command puts that folder first on the path of its own process: who
imports xdecoder never sees it. In a checkout the folder is the checkout.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

COMMANDS = {
    "train": ("run", "learn from your own data or an experiment: check, train, measure, report"),
    "eval": ("eval", "measure a network on any data sets"),
    "check": ("datasets.check.__main__", "say what is wrong with a data set, and what to do"),
    "prepare": ("datasets.prepare.__main__", "make data sets ready, or generate them"),
    "schema": ("trainer.schema", "print the JSON schema of experiments, with which editors complete YAML"),
    "report": ("trainer.report.__main__", "write the report of a run"),
}
"""By command: the module whose `main` it runs, and what it does."""

EXTRA = {
    "cv2": "opencv-python-headless",
    "pycocotools": "pycocotools",
    "tensorboard": "tensorboard",
    "tqdm": "tqdm",
}
"""What the rooms import of the extra `train`, and the package that each comes in."""

_HERE = Path(__file__).resolve().parent


def folder() -> Path:
    """Where the rooms lie.

    Raises:
        ValueError: if they were not installed.
    """
    for place in (_HERE.parent, _HERE / "_rooms"):
        if (place / "trainer").is_dir() and (place / "configs").is_dir():
            return place
    raise ValueError("this installation holds the library alone; install it anew from the checkout: pip install .")


def run(command: str, arguments: Sequence[str]) -> int:
    """The exit status of one of `COMMANDS`; raises ValueError as `opened` does."""
    with opened(command):
        return int(import_module(COMMANDS[command][0]).main(list(arguments)))


@contextmanager
def opened(command: str) -> Iterator[None]:
    """The rooms can be imported, for a command of this name.

    Raises:
        ValueError: if they, or what they need besides the library, are not installed.
    """
    sys.path.insert(0, str(folder()))
    try:
        yield
    except ModuleNotFoundError as error:
        package = EXTRA.get(str(error.name).partition(".")[0])
        if package is None:
            raise
        raise ValueError(f"xdecoder {command} needs the package {package}: pip install '.[train]'") from None
