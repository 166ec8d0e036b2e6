"""`python -m datasets.prepare shapes`: make the generated data set."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from datasets.prepare.shapes import prepare


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m datasets.prepare", description="Make data sets ready.")
    commands = parser.add_subparsers(dest="command", required=True)
    shapes = commands.add_parser("shapes", help="generate scenes of coloured things, with all annotations")
    shapes.add_argument("--root", type=Path, default=Path("data"), help="data root (default: data)")
    for split, count in (("train", 4000), ("val", 300), ("novel", 200)):
        shapes.add_argument(f"--{split}", type=int, default=count, help=f"pictures of this split (default: {count})")
    shapes.add_argument("--side", type=int, default=128, help="pixels of the square pictures (default: 128)")
    shapes.add_argument("--seed", type=int, default=0, help="of everything random (default: 0)")
    shapes.add_argument("--force", action="store_true", help="replace a set of other parameters")
    given = vars(parser.parse_args(arguments))
    given.pop("command")
    folder, start = given["root"] / "shapes", time.perf_counter()
    try:
        made = prepare(given.pop("root"), **given)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{folder}: made in {time.perf_counter() - start:.0f} seconds" if made else f"{folder}: is there already")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
