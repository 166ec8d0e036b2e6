"""Write the report of a run: xdecoder report RUN_FOLDER"""

from __future__ import annotations

import argparse
import sys
import time

from trainer.commands import EXIT_ERROR, sentence
from trainer.evaluation.results import record
from trainer.report.report import write_report
from xdecoder.arguments import whole


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, write the report and print its path; returns the exit status."""
    parser = argparse.ArgumentParser(prog="xdecoder report", description="Write report.html and images/ of a finished run.")
    parser.add_argument("run", help="run folder, for example runs/quickstart")
    parser.add_argument("--images", type=whole(1, 1000), default=8, metavar="N", help="pictures for each task (default: 8)")
    parser.add_argument("--command", help="the command that made the run, shown on the page")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        path = write_report(options.run, options.images, options.command)
        record(options.run, {"seconds/report": time.monotonic() - started})
    except (ValueError, OSError) as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        return EXIT_ERROR
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
