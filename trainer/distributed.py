"""Several processes that train or measure together: who am I among them, and how do we meet?"""

from __future__ import annotations

import re
import socket
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.heartbeat import Heartbeat, watching
from xdecoder.config import ConfigError

Item = TypeVar("Item")

PATIENCE = timedelta(hours=1)
"""How long a process that has met the others waits for them: an evaluation or a large file may take its time."""


class _Launcher(NamedTuple):
    """The variables in which a launcher tells a process its place."""

    name: str
    rank: str
    size: str
    local_rank: str
    local_size: str


LAUNCHERS = (
    _Launcher("torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    _Launcher(
        "Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"
    ),
    _Launcher("MPI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    _Launcher("PMIx", "PMIX_RANK", "PMIX_SIZE", "PMIX_LOCAL_RANK", "PMIX_LOCAL_SIZE"),
    _Launcher("Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"),
    _Launcher("Slurm", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE"),
)
JOB_NUMBERS = ("PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "SLURM_JOB_ID", "SLURM_STEP_ID")
"""What tells two jobs on one machine apart, so that they do not meet each other's processes."""


@dataclass(frozen=True)
class World:
    """One process's place among those that work together; the default is a process on its own."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    launcher: str = ""

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0


ALONE = World()


def detect(environment: Mapping[str, str]) -> World:
    """This process's place according to its launcher's variables; alone where there are none.

    Raises:
        ConfigError: if they hold something else than numbers, a rank outside the size, a rank without a size, or if one
            launcher says that this process is alone and another that it is not: copies must not each think they are the first.
    """
    speaking = [launcher for launcher in LAUNCHERS if launcher.rank in environment and launcher.size in environment]
    if not speaking:
        _refuse_rank_without_size(environment)
        return ALONE
    launcher = speaking[0]
    rank, size = _number(environment, launcher.rank), _number(environment, launcher.size)
    local = _number(environment, launcher.local_rank) if launcher.local_rank in environment else rank
    if not 0 <= rank < size:
        raise ConfigError(f"{launcher.rank}={rank} and {launcher.size}={size}: a rank lies between 0 and size - 1")
    for other in speaking[1:]:
        # An allocation's number of tasks (SLURM_NTASKS) does not say that they were started.
        if size == 1 and other.size != "SLURM_NTASKS" and _number(environment, other.size) > 1:
            raise ConfigError(
                f"{launcher.size}=1, but {other.size}={environment[other.size]}: {other.name} started several processes that "
                f"{launcher.name} knows nothing of; start them with one of the two"
            )
    return World(rank, size, local, launcher.name)


def _refuse_rank_without_size(environment: Mapping[str, str]) -> None:
    for launcher in LAUNCHERS:
        if launcher.rank in environment and launcher.name != "Slurm":  # which tells a number even to a single batch script
            raise ConfigError(
                f"{launcher.rank}={environment[launcher.rank]} says that a launcher started this process beside others, but "
                "not how many there are; set WORLD_SIZE, RANK and LOCAL_RANK for each process, or use torchrun"
            )


def _number(environment: Mapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except ValueError:
        raise ConfigError(f"{name}={environment[name]!r}: {name} must be a whole number") from None


def pick_device(name: str, world: World) -> torch.device:
    """The device of "auto", "cpu", "cuda" or "mps": this process's own GPU, or the processor. Raises ConfigError without one.

    "auto" leaves Apple's GPUs alone, on which nobody here has trained; who asks for mps gets it.
    """
    if name == "mps":
        if not torch.backends.mps.is_available() or world.size > 1:
            raise ConfigError("trainer.device: mps is a single process on a Mac with Apple's GPU; use device=auto")
        return torch.device("mps")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError("trainer.device: there is no usable GPU here; use device=cpu or device=auto")
    if world.local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"process {world.local_rank} of this machine has no GPU of its own: there are {torch.cuda.device_count()}; "
            "start no more processes than GPUs"
        )
    device = torch.device("cuda", world.local_rank)
    torch.cuda.set_device(device)
    return device


@contextmanager
def group(
    world: World,
    device: torch.device,
    environment: Mapping[str, str],
    timeout: timedelta = timedelta(minutes=2),
    silence: float = 60.0,
) -> Iterator[None]:
    """The block in which the processes of `world` can talk; nothing happens for a process on its own.

    They watch each other: where one is gone, the others say so and end (`trainer.heartbeat`).

    Tensors on the processor and plain values travel by gloo, also beside a GPU, whose queue they then need not wait for.

    Args:
        timeout: how long to wait until all have come.
        silence: seconds without a sign of life after which a process is taken for lost.

    Raises:
        ConfigError: if they do not find each other.
        RankLostError: if one of them is gone later.
    """
    if world.size == 1:
        yield
        return
    address, port = _rendezvous(world, environment)
    place = f"tcp://{address}:{port}"
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        store, _, _ = next(dist.rendezvous(place, world.rank, world.size, timeout=timeout))
        heartbeat = Heartbeat(store, world.rank, world.size, silence, environment)
        _wait_for_all(store, world, environment, timeout)
    except (RuntimeError, ValueError) as error:
        raise _not_met(world, place, error) from None
    with watching(heartbeat):  # one may be lost while they connect, too
        try:
            dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.size, timeout=PATIENCE)
        except (RuntimeError, ValueError) as error:
            raise heartbeat.explain(error) or _not_met(world, place, error) from None
        yield
        dist.barrier()  # who leaves early would be taken for lost
    dist.destroy_process_group()


def _not_met(world: World, place: str, error: Exception) -> ConfigError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return ConfigError(
        f"{world.launcher} announces {world.size} processes, but number {world.rank} could not meet the others at {place} "
        f"({reason}); check that all were started, that MASTER_ADDR is right and that no other job has the same MASTER_PORT"
    )


def _wait_for_all(store: dist.Store, world: World, environment: Mapping[str, str], timeout: timedelta) -> None:
    attempt = environment.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun keeps the store when it starts processes again
    arrived = store.add(f"arrived {attempt}", 1)
    if arrived > world.size:
        raise ValueError("more processes came than were announced, as if another job met there")
    if arrived == world.size:
        store.set(f"complete {attempt}", "")
    store.wait([f"complete {attempt}"], timeout)


def _rendezvous(world: World, environment: Mapping[str, str]) -> tuple[str, int]:
    """Address and port: as told by MASTER_ADDR and MASTER_PORT, else of Slurm's first node or of this machine if all run on it.

    Raises:
        ConfigError: if nothing tells on which of several machines rank 0 runs.
    """
    told = _number(environment, "MASTER_PORT") if "MASTER_PORT" in environment else None
    if "MASTER_ADDR" in environment:
        return environment["MASTER_ADDR"], told or _port(environment)
    mine = [launcher.local_size for launcher in LAUNCHERS if launcher.name == world.launcher]
    sizes, everybody = {environment[name] for name in mine if name in environment}, {str(world.size)}
    nodes = environment.get("SLURM_STEP_NODELIST", environment.get("SLURM_JOB_NODELIST", ""))
    if nodes and (world.launcher == "Slurm" or sizes != everybody):
        return re.sub(r"\[(\d+).*", r"\1", nodes.split(",")[0]), told or _port(environment)  # "gpu[07-09,12]" → "gpu07"
    if sizes in (everybody, set()):
        return "127.0.0.1", told or _port(environment, _starter(environment))
    address, free = _agreed_by_mpi(world)
    return address, told or free


def _port(environment: Mapping[str, str], starter: str = "") -> int:
    """The same for all processes of a job, and another one for another job, where something tells the two apart."""
    numbers = [environment[name] for name in JOB_NUMBERS if name in environment]
    job = " ".join([*numbers, starter]).strip()
    return 20000 + zlib.crc32(job.encode()) % 10000 if job else 29500


def _starter(environment: Mapping[str, str]) -> str:
    """The number of the process by which MPICH or a relative of it has started one job's processes here; "" if unknown.

    These give no job a number, but each of its processes a socket, at whose other end that process is.
    """
    try:
        inherited = socket.socket(fileno=int(environment["PMI_FD"]))
    except (KeyError, ValueError, OSError):
        return ""
    try:
        process, _, _ = struct.unpack("3i", inherited.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    except (AttributeError, OSError):  # Linux only
        return ""
    finally:
        inherited.detach()
    return str(process) if process > 0 else ""


def _agreed_by_mpi(world: World) -> tuple[str, int]:
    """Address and a free port of rank 0's machine, which MPI tells all; raises ConfigError where mpi4py fails or disagrees."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError):
        raise ConfigError(
            f"{world.launcher} announces processes on several machines; set MASTER_ADDR to the first one's address, "
            "or pip install '.[mpi]'"
        ) from None
    everybody = MPI.COMM_WORLD
    if (everybody.Get_rank(), everybody.Get_size()) != (world.rank, world.size):
        raise ConfigError(
            f"{world.launcher} announces process {world.rank} of {world.size}, but mpi4py is number {everybody.Get_rank()} of "
            f"{everybody.Get_size()}: it was built for another MPI; set MASTER_ADDR to the first machine's address"
        )
    place: tuple[str, int] = everybody.bcast((_own_address(), _free_port()) if world.is_main else None)
    return place


def _own_address() -> str:
    """This machine's address as others reach it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("10.255.255.255", 1))  # sends nothing; asks which interface would be used
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


def gather(item: Any, world: World) -> list[Any]:
    """Every process's plain `item`, in the order of ranks, on the main process; an empty list on the others."""
    if world.size == 1:
        return [item]
    items: list[Any] | None = [None] * world.size if world.is_main else None
    dist.gather_object(item, items)
    return items or []


def gather_everywhere(item: Item, world: World) -> list[Item]:
    """Every process's plain `item`, in the order of ranks, on all of them."""
    if world.size == 1:
        return [item]
    items: list[Any] = [None] * world.size
    dist.all_gather_object(items, item)
    return items


def gather_tensors(x: Tensor, world: World) -> list[Tensor]:
    """Every process's tensor, all of one shape and type, in the order of ranks, on all of them. Without gradient."""
    if world.size == 1:
        return [x]
    # As bytes, since not every way of talking knows every type of number.
    sent = x.contiguous().view(-1).view(torch.uint8)
    received = [torch.empty_like(sent) for _ in range(world.size)]
    dist.all_gather(received, sent)
    return [each.view(x.dtype).view(x.shape) for each in received]


def total(x: Tensor, world: World) -> Tensor:
    """The sum of all processes' tensors of one shape, on all of them. Without gradient."""
    if world.size > 1:
        x = x.clone()
        dist.all_reduce(x)
    return x


def anywhere(flag: bool, world: World) -> bool:
    """Whether the flag is up on any of the processes. All of them must ask."""
    if world.size == 1:
        return flag
    raised = torch.tensor(int(flag))
    dist.all_reduce(raised, op=dist.ReduceOp.MAX)
    return bool(raised.item())


def barrier(world: World) -> None:
    """Wait until all processes are here."""
    if world.size > 1:
        dist.barrier()
