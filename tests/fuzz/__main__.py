"""Try many files that are wrong somewhere: `python -m tests.fuzz`.

Each is read as a command would read it, and must end in success or in one sentence, within five seconds of processor time and
one gibibyte of memory. Workers are processes with limits of the system, so that a file which leads C code astray, hangs or
takes all memory is found too, and named. Exit status 1 = one did.
"""

from __future__ import annotations

import argparse
import faulthandler
import multiprocessing
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch

from tests.fuzz.attempts import MEMORY, Tally, try_kind
from tests.fuzz.kinds import KINDS

STUCK = 120  # wall seconds after which a piece of work is given up, traceback and all
PIECE = 25  # examples


def _limit() -> None:
    torch.set_num_threads(1)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + 2 * MEMORY * 1024, most))


def _try(name: str, folder: Path, examples: int, start: int) -> Tally:
    faulthandler.dump_traceback_later(STUCK, exit=True)
    try:
        return try_kind(name, folder, examples, start)
    finally:
        faulthandler.cancel_dump_traceback_later()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"part of a kind's name (default: all {len(KINDS)})")
    parser.add_argument("--examples", type=int, default=2000, help="of all kinds together (default: 2000)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    names = [name for name in KINDS if not options.kinds or any(part in name for part in options.kinds)]
    if not names:
        parser.error(f"no kind is called so; there are: {'; '.join(KINDS)}")
    shares = [options.examples * (i + 1) // len(names) - options.examples * i // len(names) for i in range(len(names))]
    pieces = [
        (name, min(PIECE, share - done), options.seed + done)
        for name, share in zip(names, shares, strict=True)
        for done in range(0, share, PIECE)
    ]
    begun, tallies, faults = time.monotonic(), {name: Tally() for name in names}, 0
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as home, ProcessPoolExecutor(options.processes, context, _limit) as pool:
        places = [Path(home) / str(number) for number in range(len(pieces))]
        jobs = [pool.submit(_try, name, place, *more) for (name, *more), place in zip(pieces, places, strict=True)]
        for (name, *_), job in zip(pieces, jobs, strict=True):
            try:
                _add(tallies[name], job.result())
            except BrokenProcessPool:
                print(f"{name}: a process was ended, see above", file=sys.stderr)
                faults += 1
            except Exception as error:
                print(f"{name}: {type(error).__name__}: {str(error)[:2000]}", *getattr(error, "__notes__", ()), file=sys.stderr)
                faults += 1
    _show(tallies, time.monotonic() - begun, faults)
    return int(bool(faults))


def _add(total: Tally, more: Tally) -> None:
    total.accepted += more.accepted
    total.refused += more.refused
    total.seconds += more.seconds
    total.slowest, total.memory = max(total.slowest, more.slowest), max(total.memory, more.memory)


def _show(tallies: dict[str, Tally], wall: float, faults: int) -> None:
    print(f"{'kind':34} {'accepted':>8} {'refused':>8} {'CPU s':>7} {'slowest s':>9} {'MiB more':>8}")
    for name, tally in tallies.items():
        figures = f"{tally.accepted:8} {tally.refused:8} {tally.seconds:7.1f} {tally.slowest:9.2f} {tally.memory / 1024:8.0f}"
        print(f"{name:34} {figures}")
    accepted, refused = (sum(getattr(tally, key) for tally in tallies.values()) for key in ("accepted", "refused"))
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    cpu, slowest = sum(t.seconds for t in tallies.values()), max(t.slowest for t in tallies.values())
    print(
        f"{accepted + refused} examples: {accepted} accepted, {refused} refused, {faults} faults; {wall:.0f} s ({cpu:.0f} s of "
        f"processor time), slowest {slowest:.2f} s; most memory of a process {peak:.0f} MiB, libraries included"
    )


if __name__ == "__main__":
    raise SystemExit(main())
