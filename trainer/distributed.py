"""Several processes that train or measure together: who am I among them, and how do we meet?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from xdecoder.config import ConfigError


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
        ConfigError: if they hold something else than numbers, or a rank outside the size.
    """
    for launcher in LAUNCHERS:
        if launcher.rank in environment and launcher.size in environment:
            rank, size = _number(environment, launcher.rank), _number(environment, launcher.size)
            local = _number(environment, launcher.local_rank) if launcher.local_rank in environment else rank
            if not 0 <= rank < size:
                raise ConfigError(f"{launcher.rank}={rank} and {launcher.size}={size}: a rank lies between 0 and size - 1")
            return World(rank, size, local, launcher.name)
    return ALONE


def _number(environment: Mapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except ValueError:
        raise ConfigError(f"{name}={environment[name]!r}: {name} must be a whole number") from None


def pick_device(name: str, world: World) -> torch.device:
    """The device of "auto", "cpu" or "cuda": this process's own GPU, or the processor. Raises ConfigError without a GPU."""
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
    world: World, device: torch.device, environment: Mapping[str, str], timeout: timedelta = timedelta(minutes=10)
) -> Iterator[None]:
    """The block in which the processes of `world` can talk; nothing happens for a process on its own.

    Raises:
        ConfigError: if they do not find each other.
    """
    if world.size == 1:
        yield
        return
    place = f"tcp://{_address(world, environment)}:{environment.get('MASTER_PORT', '29500')}"
    backend = "nccl" if device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, init_method=place, rank=world.rank, world_size=world.size, timeout=timeout)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{world.launcher} announces {world.size} processes, but number {world.rank} could not meet the others at {place} "
            f"({reason}); check that all were started and that MASTER_ADDR and MASTER_PORT are right"
        ) from None
    try:
        yield
    finally:
        dist.destroy_process_group()


def _address(world: World, environment: Mapping[str, str]) -> str:
    """Where rank 0 runs: as told by MASTER_ADDR, else the first of Slurm's nodes, else this machine if all run on it."""
    if "MASTER_ADDR" in environment:
        return environment["MASTER_ADDR"]
    nodes = environment.get("SLURM_STEP_NODELIST", environment.get("SLURM_JOB_NODELIST", ""))
    if nodes:
        return re.sub(r"\[(\d+).*", r"\1", nodes.split(",")[0])      # "gpu[07-09,12]" → "gpu07"
    sizes = {environment.get(launcher.local_size, str(world.size)) for launcher in LAUNCHERS if launcher.name == world.launcher}
    if sizes == {str(world.size)}:
        return "127.0.0.1"
    raise ConfigError(f"{world.launcher} announces processes on several machines; set MASTER_ADDR to the first one's address")


def gather(item: Any, world: World) -> list[Any]:
    """Every process's plain `item`, in the order of ranks, on the main process; an empty list on the others."""
    if world.size == 1:
        return [item]
    items: list[Any] | None = [None] * world.size if world.is_main else None
    dist.gather_object(item, items)
    return items or []


def anywhere(flag: bool, world: World, device: torch.device) -> bool:
    """Whether the flag is up on any of the processes. All of them must ask."""
    if world.size == 1:
        return flag
    raised = torch.tensor(int(flag), device=device)
    dist.all_reduce(raised, op=dist.ReduceOp.MAX)
    return bool(raised.item())


def barrier(world: World) -> None:
    """Wait until all processes are here."""
    if world.size > 1:
        dist.barrier()
