"""Trying a kind of file with many mutations: each ends in success or in one sentence, within bounds of time and memory."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from datasets.findings import DataError
from tests.fuzz.kinds import KINDS, Kind
from xdecoder.config import ConfigError
from xdecoder.files import FileError

MEMORY = 1 << 20  # kB that a file may cost
SECONDS = 5.0
LONGEST = 1500  # letters of a sentence


@dataclass
class Tally:
    """What came of the examples of one kind."""

    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0  # processor seconds of one
    seconds: float = 0.0  # processor seconds of all, making them included
    memory: int = 0  # kB, the most that one has added to what the process held before


def attempt(kind: Kind, path: Path, content: bytes, tally: Tally) -> None:
    """Use a file with such a content; raises whatever is no sentence, and AssertionError beyond the bounds."""
    path.write_bytes(content)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    refused = None
    try:
        kind.use(path)
    except ValueError as error:
        refused = error
    tally.accepted += refused is None
    if refused is not None:
        said = str(refused)
        assert type(refused) in (ValueError, ConfigError, FileError, DataError), f"not ours: {refused!r}"
        assert "\n" not in said and len(said) < LONGEST and said.isprintable(), said
        assert not kind.named or str(path.parent) in said, f"neither the file is named nor one that it names: {said}"
        tally.refused += 1
    took, grown = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    tally.slowest, tally.memory = max(tally.slowest, took), max(tally.memory, grown)
    assert took < SECONDS, f"{took:.1f} s"
    assert grown < MEMORY, f"{grown} kB"


def try_kind(name: str, folder: Path, examples: int, start: int = 0) -> Tally:
    """So many examples of a kind, the same for each `start`; what is healthy is written to `folder`, and is read first."""
    kind, tally, begun = KINDS[name], Tally(), time.process_time()
    folder.mkdir(parents=True, exist_ok=True)
    path = kind.make(folder)
    healthy = path.read_bytes()
    kind.use(path)
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    phases = [Phase.generate]  # an example that fails is shown as it is; making it smaller would take long

    @seed(start)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=checks, phases=phases)
    @given(data=st.data())
    def each(data: st.DataObject) -> None:
        attempt(kind, path, kind.change(healthy, data.draw), tally)

    each()
    tally.seconds = time.process_time() - begun
    return tally
