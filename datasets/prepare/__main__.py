"""`python -m datasets.prepare NAME`: generate a set, or make of official downloads what is read here."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from datasets.prepare import ade20k, coco, own_example, pascal, sbd, scannet, shapes, streets
from xdecoder.arguments import whole

GENERATED: dict[str, Callable[..., bool]] = {"shapes": shapes.prepare, "own_example": own_example.prepare}
DOWNLOADS: dict[str, tuple[Callable[[Path, int], list[Path]], str]] = {
    "ade20k": (ade20k.prepare, "labels, panoptic sets and instances of SceneParse 150"),
    "ade20k_full": (ade20k.prepare_full, "pictures and labels of the 847 classes of ADE20K's 2021 release"),
    "bdd": (streets.prepare_bdd, "the panoptic set of BDD100K's validation pictures"),
    "cityscapes": (streets.prepare_cityscapes, "panoptic sets and instances of Cityscapes"),
    "coco_semantic": (coco.prepare_semantic, "label images from COCO's panoptic PNGs"),
    "coco_arrows": (coco.prepare_arrows, "ViLT's arrow files from Karpathy's JSON and COCO 2014"),
    "context_59": (pascal.prepare_59, "label images of Pascal Context's common classes"),
    "context_459": (pascal.prepare_459, "label images of all of Pascal Context's classes"),
    "refcoco": (coco.prepare_refs, "JSONs of RefCOCO, RefCOCO+ and RefCOCOg from refs(*).p"),
    "sbd": (sbd.prepare, "images of the object numbers of SBD's validation pictures"),
    "scannet": (scannet.prepare, "label images and the panoptic set of ScanNet's validation frames"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    given = vars(_parser().parse_args(arguments))
    name, root, start = given.pop("command"), given.pop("root"), time.perf_counter()
    try:
        if name in GENERATED:
            made = [root / name] if GENERATED[name](root, **given) else []
        else:
            made = DOWNLOADS[name][0](root, given["workers"])
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not made:
        print(f"{root / name}: is there already")
    for path in made:
        print(f"{path}: made in {time.perf_counter() - start:.0f} seconds")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m datasets.prepare", description="Make data sets ready.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="NAME")
    made = commands.add_parser("shapes", help="generate scenes of coloured things, with all annotations")
    for split, count in (("train", 4000), ("val", 300), ("novel", 200)):
        made.add_argument(f"--{split}", type=whole(1, 10**7), default=count, help=f"pictures of this split (default: {count})")
    made.add_argument("--side", type=whole(64, 4096), default=128, help="pixels of the square pictures (default: 128)")
    made.add_argument("--seed", type=whole(0, 2**32 - 1), default=0, help="of everything random (default: 0)")
    made.add_argument("--force", action="store_true", help="replace a set of other parameters")
    example = commands.add_parser("own_example", help="generate a small set in each format that data.own takes")
    example.add_argument("--images", type=whole(1, 10**6), default=60, help="of each format (default: 60)")
    for name, (function, text) in DOWNLOADS.items():
        command = commands.add_parser(name, help=text, description=function.__doc__)
        cores = os.cpu_count() or 1
        command.add_argument("--workers", type=whole(1, 256), default=cores, help="processes (default: one per core)")
    for command in commands.choices.values():
        command.add_argument("--root", type=Path, default=Path("data"), help="data root (default: data)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
