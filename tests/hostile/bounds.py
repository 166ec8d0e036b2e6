"""Work in a child that may use so much processor time and memory and no more."""

from __future__ import annotations

import os
import resource
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

SECONDS, GIBIBYTES = 60, 6


def bounded(work: Callable[[], str], seconds: int = SECONDS) -> str:
    """What `work` returns in a child within bounds, or the fault that it raises."""
    listen, speak = os.pipe()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.close(listen)
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (taken + GIBIBYTES * 2**30,) * 2)
            os.write(speak, work().encode(errors="replace")[:60_000])
        except BaseException as error:
            told = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
            os.write(speak, f"FAULT {told}".encode(errors="replace")[:60_000])
        finally:
            os._exit(0)
    os.close(speak)
    with os.fdopen(listen, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"FAULT killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return said
