from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ranks import run_ranks
from trainer.distributed import ALONE, World
from trainer.lock import FILE, locked
from xdecoder.config import ConfigError

HOLD = (
    "import sys; from pathlib import Path; from trainer.lock import _take; f = _take(Path(sys.argv[1])); print(f[1]); input()"
)


def holding(folder: Path, root: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(folder)]
    process = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "\n"
    return process


def test_a_second_run_is_refused_and_told_of_the_first_until_that_is_killed(tmp_path: Path, root: Path) -> None:
    first = holding(tmp_path / "run", root)
    try:
        with pytest.raises(ConfigError, match=rf"another run \(process {first.pid} on .*, begun 2.*\) is writing there"):
            locked(tmp_path / "run", ALONE).__enter__()
    finally:
        first.kill()
        first.communicate()
    with locked(tmp_path / "run", ALONE):
        assert json.loads((tmp_path / "run" / FILE).read_text())["process"] == os.getpid()


def test_all_processes_of_the_second_run_hear_of_it(tmp_path: Path, root: Path) -> None:
    def try_to_run(world: World) -> str:
        try:
            with locked(tmp_path, world):
                return "runs"
        except ConfigError as error:
            return str(error)

    assert run_ranks(try_to_run, 2) == ["runs", "runs"]
    first = holding(tmp_path, root)
    try:
        told = run_ranks(try_to_run, 2)
    finally:
        first.kill()
        first.communicate()
    assert told[0] == told[1] and f"process {first.pid}" in told[0]
