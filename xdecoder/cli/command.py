"""The command `xdecoder`: its line is read, its work done, and what goes wrong told in one sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper

from xdecoder import memory, rooms
from xdecoder.cli.parser import parser_of_all
from xdecoder.cli.terminal import EXIT_ERROR, complain

EXIT_INTERRUPTED = 130
EXIT_CLOSED = 141
"""Whoever read what is printed has stopped reading, as `head` does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0, or 2 after an error told in one sentence on the standard error."""
    try:
        status = _main(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
        return EXIT_CLOSED
    return status


def _main(given: list[str]) -> int:
    if given and given[0] in rooms.COMMANDS:
        try:
            return rooms.run(given[0], given[1:])
        except ValueError as error:
            return complain(error)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # files are printed as they are named, in whatever encoding
    parser = parser_of_all()
    if not given:
        parser.print_help(sys.stderr)
        return EXIT_ERROR
    options, unknown = parser.parse_known_args(given)
    if unknown:
        parser.error(f"unknown option {unknown[0]}")
    try:
        status: int = options.run(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        raise
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        if options.debug or (isinstance(error, RuntimeError) and not memory.ran_out(error)):
            raise
        return complain(error)
    return status
