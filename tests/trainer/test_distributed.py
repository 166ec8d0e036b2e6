from __future__ import annotations

import socket
from datetime import timedelta

import pytest
import torch

from trainer import distributed
from trainer.distributed import ALONE, World
from xdecoder.config import ConfigError

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
        ({"RANK": "3"}, (0, 1, 0)),         # a rank without a size says nothing
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


def test_alone_nothing_is_joined() -> None:
    with distributed.group(ALONE, CPU, {}):
        assert not torch.distributed.is_initialized()
        assert distributed.gather("a", ALONE) == ["a"]
        assert distributed.anywhere(True, ALONE, CPU)
        assert not distributed.anywhere(False, ALONE, CPU)


@pytest.mark.filterwarnings("ignore")        # torch's own, about the socket
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
    assert distributed._address(slurm, {"SLURM_STEP_NODELIST": "gpu[07-09,12]"}) == "gpu07"
    assert distributed._address(slurm, {"SLURM_JOB_NODELIST": "alpha,beta"}) == "alpha"
    assert distributed._address(slurm, {"MASTER_ADDR": "here"}) == "here"
    mpi = World(0, 4, 0, "Open MPI")
    assert distributed._address(mpi, {"OMPI_COMM_WORLD_LOCAL_SIZE": "4"}) == "127.0.0.1"
    with pytest.raises(ConfigError, match="set MASTER_ADDR"):
        distributed._address(mpi, {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"})


def test_no_gpu_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert distributed.pick_device("auto", ALONE) == CPU
    with pytest.raises(ConfigError, match="no usable GPU"):
        distributed.pick_device("cuda", ALONE)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="process 1 of this machine has no GPU of its own"):
        distributed.pick_device("auto", World(1, 2, 1, "torchrun"))
