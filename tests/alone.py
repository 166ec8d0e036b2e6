"""Each extra of the package alone: python tests/alone.py FOLDER prints by extra what went wrong, as JSON.

What no extra but the one in question brings is hidden from imports, as if it were not installed; which packages those are is
read from what the installed ones say that they require. One process loads what all need and is copied for each extra. FOLDER
holds what `tests.documents` puts into one. This process must not see pytest, whose plugins import too much.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pkgutil
import re
import sys
import tomllib
import traceback
from collections.abc import Callable, Iterable, Sequence
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from types import ModuleType
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def closure(lines: Iterable[str]) -> set[str]:
    """Names of all packages that requirements bring with them, of this project's own extras as well."""
    found, waiting = set[str](), [(Requirement(line), "") for line in lines]
    while waiting:
        wanted, extra = waiting.pop()
        if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(wanted.name)
        own = name == PROJECT["name"]
        key = f"{name}[{','.join(sorted(wanted.extras))}]"
        if key in found:
            continue
        found |= {name, key}
        for each in ("", *wanted.extras):
            more = EXTRAS[each] if own and each else [] if own else installed(name)
            waiting += [(Requirement(line), each) for line in more]
    return found


def installed(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:
        return []


class Hidden:
    """A finder that knows all but some packages."""

    names: frozenset[str] = frozenset()

    def __init__(self, finder: Any) -> None:
        self.finder = finder

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.partition(".")[0] in self.names:
            return None
        found: ModuleSpec | None = self.finder.find_spec(name, path, target)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.finder, name)  # what importlib asks besides: metadata, caches


def hide(extra: str | None) -> None:
    """Leave what the package needs itself, and what the extra brings."""
    known = closure([*PROJECT["dependencies"], *(EXTRAS[extra] if extra else [])])
    others = closure(line for lines in EXTRAS.values() for line in lines) - known
    Hidden.names = frozenset(
        module
        for module, packages in packages_distributions().items()
        if {canonicalize_name(package) for package in packages} <= others and module not in ("tests", "xdecoder")
    )


def command(*line: str) -> str:
    """What an xdecoder command complains of, or nothing."""
    from xdecoder.cli import main

    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        status = main(list(line))
    return errors.getvalue() if status else ""


def library() -> str:
    ask = command("panoptic", "photo.jpg", "--things", "cat", "--stuff", "sky", "--checkpoint", "model.pt", "--out", "out")
    told = command("train", "path/to/data")
    good = re.fullmatch(r"error: xdecoder train needs the package [\w-]+: pip install '\.\[train\]'\n", told)
    return ask or command("weights") or ("" if good else f"expected a sentence on the extra train, got {told!r}")


def train() -> str:
    for room in ("datasets", "trainer"):
        for _, name, _ in pkgutil.walk_packages([str(ROOT / room)], f"{room}."):
            if not name.endswith("__main__"):
                importlib.import_module(name)
    importlib.import_module("run")  # train.py, eval.py and the report
    return command("check", "path/to/data")


def data() -> str:
    from datasets.readers import read
    from datasets.spec import DatasetSpec
    from tests.datasets import packed

    packed.write_parquet(Path("pairs/one.parquet"), packed.rows(3))
    spec = DatasetSpec.model_validate({"name": "pairs", "reader": "parquet", "files": ["pairs/one.parquet"]})
    return "" if len(read(spec, Path()).records) else "no pairs were read"


def metrics() -> str:
    from datasets.evaluators import captioning, coco_caption_tools

    found = importlib.util.find_spec("pycocoevalcap")
    return "" if found and captioning and coco_caption_tools else "its tools are not found"


def serve() -> str:
    import xdecoder
    from xdecoder.serving import http, mcp
    from xdecoder.serving.session import Limits, Session
    from xdecoder.serving.tools import Tools

    model = xdecoder.load("model.pt")
    http.build(model)
    mcp.build(Tools(Session(model, Path("session"), Path("photos"), Limits()), None))
    return ""


def edit() -> str:
    missing = [name for name in ("diffusers", "transformers", "accelerate") if importlib.util.find_spec(name) is None]
    line = ["edit", "photo.jpg", "remove the cat", "--threshold", "-1", "--checkpoint", "model.pt", "--out", "out"]
    return f"{missing} cannot be imported" if missing else command(*line)


def export() -> str:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    return f"{missing} cannot be imported" if missing else ""  # what they write is the matter of test_export.py


def video() -> str:
    from fractions import Fraction

    from PIL import Image

    from xdecoder.inference import video

    with video.writer(Path("film.mp4"), (64, 48), Fraction(10)) as write:
        write(Image.new("RGB", (64, 48)))
    return command("segment", "film.mp4", "--classes", "cat", "--checkpoint", "model.pt", "--out", "out")


def web() -> str:
    sys.path.insert(0, str(ROOT / "demo"))
    page: Any = importlib.import_module("web")
    service: Any = importlib.import_module("demo.page.service")
    service.serve = lambda *arguments, **named: None
    return "" if page.main(["--checkpoint", "model.pt"]) == 0 else "the page was not built"


COMMANDS: dict[str, Callable[[], str]] = {
    "train": train,
    "data": data,
    "metrics": metrics,
    "serve": serve,
    "edit": edit,
    "export": export,
    "video": video,
    "web": web,
}
"""By extra, what must run with it alone; what goes wrong, or nothing."""


def copied(extra: str | None, work: Callable[[], str]) -> str:
    """What goes wrong in a copy of this process that sees the extra alone."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            hide(extra)
            told = work()
        except BaseException:
            told = traceback.format_exc()
        os.write(writer, told.encode()[-4000:])
        os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8", errors="replace") as answer:
        told = answer.read()
    os.wait()
    return told


def main() -> None:
    """Print {extra: what went wrong}."""
    os.chdir(sys.argv[1])
    sys.path[:0] = [str(ROOT)]
    sys.meta_path[:] = [Hidden(finder) for finder in sys.meta_path]
    hide(None)
    for name in ("torch", "torchvision", "xdecoder.inference.predictor", "xdecoder.published.checkpoints"):
        importlib.import_module(name)
    found = {"": copied(None, library)} | {extra: copied(extra, work) for extra, work in COMMANDS.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
