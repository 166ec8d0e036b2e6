"""Commands and code of the Markdown pages, run as printed, in this process: on small networks and for few steps.

A page's blocks are run from top to bottom in a folder that looks like a checkout in which one has worked for a while: networks,
photographs and data lie where the pages say. What would leave the machine, or not return, is only looked at: pip, make, docker.
"""

from __future__ import annotations

import glob
import importlib
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from datasets.prepare import own_example, shapes
from tests.datasets import official
from xdecoder import checkpoint
from xdecoder.config import parse
from xdecoder.model import XDecoder, XDecoderConfig
from xdecoder.published import checkpoints

ROOT = Path(__file__).resolve().parent.parent

SMALL = {
    "backbone": {"name": "focal", "width": 16, "depths": [1, 1, 1, 1], "levels": 2, "drop_path": 0.0},
    "pixel_decoder": {"name": "fpn", "width": 32, "layers": 1, "heads": 4, "hidden": 32},
    "decoder": {"queries": 7, "layers": 2, "width": 32, "heads": 4, "hidden": 32, "joint_width": 32},
    "language": {"merges": 500, "width": 32, "heads": 4, "layers": 1, "output_width": 32},
    "image_size": 64,
}
PUBLISHED = {
    "backbone": {"name": "focal", "width": 16, "depths": [1, 1, 1, 1], "levels": 2, "window": 3, "depthwise": True},
    "pixel_decoder": {"name": "fpn", "width": 64, "layers": 1, "heads": 8, "hidden": 64},
    "decoder": {"queries": 21, "layers": 3, "width": 64, "heads": 8, "hidden": 64, "joint_width": 64, "caption_length": 20},
    "language": {"merges": 48894, "context_length": 20, "width": 64, "heads": 8, "layers": 1, "output_width": 64},
    "image_size": 512,
    "caption_image_size": 224,
    "published_quirks": True,
}
"""The smallest network that can be written as a published one is."""
PROGRAMS = {  # what stands after `python` or `python -m`: the module whose `main` it runs, and what makes it short
    "train.py": ("train", ("trainer.steps=2", "trainer.save_every=2", "trainer.device=cpu", "data.train.0.batch_size=2")),
    "eval.py": ("eval", ("trainer.steps=2", "trainer.device=cpu")),
    "datasets.prepare": ("datasets.prepare.__main__", ()),
    "datasets.check": ("datasets.check.__main__", ()),
}
LOOKED_AT = ("pip", "make", "docker", "git", "cd", "uv", "conda")


@dataclass(frozen=True)
class Block:
    language: str
    text: str

    @property
    def lines(self) -> list[str]:
        """Commands: continued lines joined, comments left out."""
        joined = re.sub(r"\\\n\s*", "", self.text)
        return [line for line in (re.sub(r"(^|\s)#\s.*$", "", line).strip() for line in joined.splitlines()) if line]


def blocks(page: str, *languages: str) -> list[Block]:
    found = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [Block(language, text) for language, text in found if language in languages]


def run(line: str) -> int:
    """The exit status of one command line; assertion errors name what is not there."""
    words = [word for part in shlex.split(line) for word in (sorted(glob.glob(part)) or [part])]
    if words[0] == "mpirun":
        words = words[3:]
    if words[0] in LOOKED_AT:
        look_at(words)
        return 0
    main, arguments = program(words)
    return main(arguments)


def program(words: Sequence[str]) -> tuple[Callable[[list[str]], int], list[str]]:
    """The `main` that a command line calls, and its arguments, shortened where they would take long."""
    if words[:2] == ["xdecoder", "train"]:
        return train, [*words[1:], *PROGRAMS["train.py"][1]]
    if words[0] == "xdecoder":
        return importlib.import_module("xdecoder.cli").main, list(words[1:])
    assert words[0] == "python", words
    name, *arguments = words[2:] if words[1] == "-m" else words[1:]
    if name in PROGRAMS:
        module, short = PROGRAMS[name]
        plain = "--conf_files" in arguments or arguments[:1] == ["table"]
        return importlib.import_module(module).main, [*arguments, *(() if plain else short)]
    assert (ROOT / name).is_file(), f"{name}: no such script"
    return script(name), arguments


def train(arguments: list[str]) -> int:
    """`xdecoder train` with the small networks of the current folder."""
    whole, cli = importlib.import_module("run"), importlib.import_module("xdecoder.cli")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SMALL", "CLASSES", "LARGE"):
            patch.setattr(whole, name, Path("configs/finetune", getattr(whole, name).name).absolute())
        return int(cli.main(arguments))


def script(name: str) -> Callable[[list[str]], int]:
    """What a script in demo/ does with its arguments; the page is built, but not served."""

    def run_script(arguments: list[str]) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(ROOT / "demo"))
            patch.setattr(sys, "argv", [name, *arguments])
            if name == "demo/web.py":
                web = importlib.import_module("web")
                patch.setattr("demo.page.service.serve", lambda *page, **options: "http://127.0.0.1:7860")
                patch.setattr(web, "QUICKSTART", Path("runs/quickstart/model.pt"))
                return int(web.main(arguments))
            with pytest.raises(SystemExit) as ended:
                runpy.run_path(str(ROOT / name), run_name="__main__")
            return int(ended.value.code or 0)

    return run_script


def look_at(words: Sequence[str]) -> None:
    """What a command names is there: targets of the Makefile, extras of the package."""
    if words[0] == "make":
        done = subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    for word in words if words[0] in ("pip", "uv") else ():
        named = re.search(r"\[([\w,]+)\]", word)
        assert named is None or set(named.group(1).split(",")) <= extras, f"{word}: no such extra"


def work_folder(folder: Path) -> None:
    """Fill the folder with what a checkout holds, its networks made small, and with what the pages speak of."""
    for path in (ROOT / "configs").rglob("*.yaml"):
        settings = yaml.safe_load(path.read_text())
        if "model" in settings:
            settings["model"] = small_model(path)
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(yaml.safe_dump(settings))
    scene = Image.effect_noise((96, 72), 80).convert("RGB")
    for name in ("photo.png", "photo.jpg", "photos/one.jpg", "photos/two.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        scene.save(folder / name)
    torch.manual_seed(0)
    quickstart = parse(XDecoderConfig, small_model(ROOT / "configs/shapes/quickstart.yaml"))
    for name in ("model.pt", "runs/quickstart/model.pt"):
        checkpoint.save(XDecoder(quickstart), folder / name)
    checkpoints.save(XDecoder(parse(XDecoderConfig, PUBLISHED)), folder / "xdecoder_focalt_last.pt")


def small_model(path: Path) -> dict[str, Any]:
    """A network as the experiment's, only smaller: it can do the same."""
    if path.parent.name == "xdecoder":
        return PUBLISHED
    model = yaml.safe_load(path.read_text())["model"]
    return SMALL | {part: settings for part, settings in model.items() if part not in SMALL and isinstance(settings, dict)}


def data_folder(folder: Path) -> None:
    """Data sets as small as they can be, where the pages expect them."""
    own_example.prepare(folder, images=12, side=64)
    (folder / "path/to").mkdir(parents=True)
    (folder / "own_example/yolo").rename(folder / "path/to/data")
    shapes.prepare(folder / "data", train=8, val=4, novel=4, side=64)
    for root in (folder / "data", folder / "DATA"):
        official.coco_panoptic(root, "val")
        official.ade(root, "val", True)
        official.refer(root, "refcocog", "umd", "val", True)
