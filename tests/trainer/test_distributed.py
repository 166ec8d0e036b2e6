from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from trainer import distributed
from trainer.distributed import ALONE, World
from xdecoder.config import ConfigError

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1, 0)),
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, (3, 8, 1)),
        ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}, (2, 4, 0)),
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, (1, 2, 1)),
        ({"PMIX_RANK": "1", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "0"}, (1, 2, 0)),
        ({"SLURM_PROCID": "5", "SLURM_NTASKS": "6", "SLURM_LOCALID": "2"}, (5, 6, 2)),
        ({"RANK": "0", "WORLD_SIZE": "2", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, (0, 2, 0)),
        ({"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "1"}, (1, 2, 0)),  # MPICH, Intel MPI
        ({"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, (0, 1, 0)),  # a batch script, in which nothing was started yet
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (0, 1, 0)),
    ],
)
def test_places_are_read_from_every_launcher(environment: dict[str, str], expected: tuple[int, int, int]) -> None:
    world = distributed.detect(environment)
    assert (world.rank, world.size, world.local_rank) == expected


def test_nonsense_is_refused() -> None:
    with pytest.raises(ConfigError, match="WORLD_SIZE='two'"):
        distributed.detect({"RANK": "0", "WORLD_SIZE": "two"})
    with pytest.raises(ConfigError, match="RANK=2 and WORLD_SIZE=2"):
        distributed.detect({"RANK": "2", "WORLD_SIZE": "2"})


@pytest.mark.parametrize("name", ["RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"])
def test_a_rank_without_a_size_is_not_taken_for_a_process_on_its_own(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}=0 says that a launcher started .* but not how many"):
        distributed.detect({name: "0"})


def test_launchers_that_disagree_are_refused() -> None:
    inner = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    outer = {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "3"}
    with pytest.raises(ConfigError, match="WORLD_SIZE=1, but SLURM_STEP_NUM_TASKS=4: Slurm started several processes"):
        distributed.detect(inner | outer)
    assert distributed.detect({**inner, "WORLD_SIZE": "8"} | outer).size == 8, "torchrun on each of Slurm's nodes"


def test_alone_nothing_is_joined() -> None:
    with distributed.group(ALONE, CPU, {}):
        assert not torch.distributed.is_initialized()
        assert distributed.gather("a", ALONE) == ["a"]
        assert distributed.gather_everywhere("a", ALONE) == ["a"]
        assert distributed.anywhere(True, ALONE)
        assert not distributed.anywhere(False, ALONE)


@pytest.mark.filterwarnings("ignore")  # torch's own, about the socket
def test_processes_that_do_not_come_are_one_sentence() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = World(0, 2, 0, "torchrun")
    with (
        pytest.raises(ConfigError, match="torchrun announces 2 processes, but number 0 could not meet the others") as error,
        distributed.group(world, CPU, {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}, timedelta(seconds=1)),
    ):
        pytest.fail("there is nobody to meet")
    assert "\n" not in str(error.value)


def test_the_address_of_the_first_node() -> None:
    slurm = World(0, 4, 0, "Slurm")
    rendezvous = distributed._rendezvous
    assert rendezvous(slurm, {"SLURM_STEP_NODELIST": "gpu[07-09,12]"}) == ("gpu07", 29500)
    assert rendezvous(slurm, {"SLURM_JOB_NODELIST": "alpha,beta"}) == ("alpha", 29500)
    assert rendezvous(slurm, {"MASTER_ADDR": "here", "MASTER_PORT": "7"}) == ("here", 7)
    mpi = World(0, 4, 0, "Open MPI")
    assert rendezvous(mpi, {"OMPI_COMM_WORLD_LOCAL_SIZE": "4"})[0] == "127.0.0.1"
    hydra = {"MPI_LOCALNRANKS": "4", "SLURM_JOB_NODELIST": "alpha"}
    assert rendezvous(World(0, 4, 0, "MPI"), hydra)[0] == "127.0.0.1", "in an allocation, but all of them here"
    assert rendezvous(World(0, 8, 0, "MPI"), hydra)[0] == "alpha"
    one, other = (rendezvous(slurm, {"MASTER_ADDR": "a", "SLURM_JOB_ID": number})[1] for number in ("1", "2"))
    assert one != other, "two jobs of one machine must not meet"


OTHER_STARTER = """
import socket
pair = socket.socketpair()
socket.send_fds(socket.socket(fileno=0), [b"."], [pair[0].fileno()])
"""


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="sockets tell who is at the other end on Linux only")
def test_two_jobs_of_mpich_on_one_machine_are_told_apart() -> None:
    """Its hydra starts a job's processes from one of its own, which has a socket to each."""
    job, world = {"MPI_LOCALNRANKS": "2"}, World(0, 2, 0, "MPI")
    with ExitStack() as stack:
        first, second, here, there = (stack.enter_context(each) for _ in "ab" for each in socket.socketpair())
        places = [{**job, "PMI_FD": str(each.fileno())} for each in (first, second)]
        assert [distributed._starter(each) for each in places] == [str(os.getpid())] * 2
        assert first.fileno() >= 0 and first.send(b".") == 1, "MPI may still use it"
        address, port = distributed._rendezvous(world, places[0])
        assert (address, port) == distributed._rendezvous(world, places[1]) and address == "127.0.0.1" and port != 29500
        subprocess.run([sys.executable, "-S", "-c", OTHER_STARTER], stdin=there, check=True)
        other = stack.enter_context(socket.socket(fileno=socket.recv_fds(here, 1, 1)[1][0]))
        assert distributed._starter({"PMI_FD": str(other.fileno())}) not in ("", str(os.getpid()))


@pytest.mark.parametrize("descriptor", ["", "none", "-1", "999999"])
def test_a_starter_that_cannot_be_told_is_none(descriptor: str) -> None:
    assert distributed._starter({"PMI_FD": descriptor}) == ""
    assert distributed._rendezvous(World(0, 2, 0, "MPI"), {"MPI_LOCALNRANKS": "2"}) == ("127.0.0.1", 29500)


class _Mpi:
    """Stands in for mpi4py's COMM_WORLD."""

    def __init__(self, rank: int, size: int) -> None:
        self.Get_rank, self.Get_size = lambda: rank, lambda: size

    def bcast(self, place: tuple[str, int] | None) -> tuple[str, int]:
        return place or ("10.0.0.7", 4711)


def test_mpi_tells_the_address_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    two_nodes, world = {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, World(1, 4, 1, "Open MPI")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ConfigError, match=r"set MASTER_ADDR to the first one's address, or pip install '\.\[mpi\]'"):
        distributed._rendezvous(world, two_nodes)
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=SimpleNamespace(COMM_WORLD=_Mpi(1, 4))))
    assert distributed._rendezvous(world, two_nodes) == ("10.0.0.7", 4711)
    assert distributed._rendezvous(world, {**two_nodes, "MASTER_PORT": "7"}) == ("10.0.0.7", 7)
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=SimpleNamespace(COMM_WORLD=_Mpi(0, 1))))
    with pytest.raises(ConfigError, match="announces process 1 of 4, but mpi4py is number 0 of 1"):
        distributed._rendezvous(world, two_nodes)


GLOBAL_BATCH = """
import os, sys, torch
from trainer import distributed
from trainer.commands import guarded
world = distributed.detect(os.environ)
def meet():
    with distributed.group(world, torch.device("cpu"), os.environ):
        total = distributed.total(torch.tensor([world.rank + 1.0]), world)
        sys.stdout.write(f"{world.launcher} {world.rank}/{world.size} {total.item():.0f}\\n")
    return 0
sys.exit(guarded(meet))
"""


@pytest.mark.parametrize("launcher", ["Open MPI", "torchrun"])
def test_a_real_launcher(launcher: str, root: Path) -> None:
    beside = Path(sys.executable).parent
    mpirun, torchrun = beside / "mpirun", beside / "torchrun"
    commands = {
        "Open MPI": [mpirun, "--allow-run-as-root", "--oversubscribe", "-n", "2", sys.executable, "-c", GLOBAL_BATCH],
        "torchrun": [torchrun, "--standalone", "--nproc-per-node", "2", "--no-python", sys.executable, "-c", GLOBAL_BATCH],
    }
    command = commands[launcher]
    if not Path(command[0]).exists():
        pytest.skip(f"{command[0]} is not installed")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_", "PMI", "SLURM_"))}
    done = subprocess.run(list(map(str, command)), cwd=root, env=clean, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n"))[-2:] == [f"{launcher} 0/2 3", f"{launcher} 1/2 3"]


def test_no_gpu_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert distributed.pick_device("auto", ALONE) == CPU
    with pytest.raises(ConfigError, match="no usable GPU"):
        distributed.pick_device("cuda", ALONE)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="mps is a single process on a Mac"):
        distributed.pick_device("mps", ALONE)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert distributed.pick_device("mps", ALONE) == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="process 1 of this machine has no GPU of its own"):
        distributed.pick_device("auto", World(1, 2, 1, "torchrun"))
