"""Ways to start several processes of a command on this machine, for those that are installed, a Slurm of one node included."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

DEBIAN = Path("/usr/sbin")  # where slurmctld, slurmd and munged lie
SLURM = ("slurmctld", "slurmd", "munged")
SECONDS = 30  # that Slurm has to come up

CONFIGURATION = """ClusterName=one
SlurmctldHost=localhost(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={folder}
SlurmdSpoolDir={folder}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=localhost NodeAddr=127.0.0.1 CPUs=8
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def launchers(environment: Mapping[str, str]) -> dict[str, list[str]]:
    """By name, what stands before a command that is to run in {n} processes; "by hand" is nothing, see `start`."""
    beside = Path(sys.executable).parent
    torchrun, open_mpi = beside / "torchrun", beside / "mpirun"
    mpich = shutil.which("mpiexec.hydra")
    found = {"by hand": [sys.executable]}
    if torchrun.exists():
        found["torchrun"] = [str(torchrun), "--standalone", "--nproc-per-node", "{n}"]
    if open_mpi.exists():
        found["Open MPI"] = [str(open_mpi), "--allow-run-as-root", "--oversubscribe", "-n", "{n}", sys.executable]
    if mpich:
        found["MPICH"] = [mpich, "-n", "{n}", sys.executable]
    if "SLURM_CONF" in environment:
        found["srun"] = ["srun", "--quiet", "--overlap", "-n", "{n}", sys.executable]
    return found


def start(
    launcher: Sequence[str], processes: int, command: Sequence[str], environment: Mapping[str, str], said: int
) -> list[subprocess.Popen[bytes]]:
    """Start the command under one of `launchers`, each in a session of its own; what they print goes to the file `said`.

    One process needs no launcher. By hand, every process is told its place; else the one that is started is the launcher.
    """
    words = [word.format(n=processes) for word in launcher]
    by_hand = words == [sys.executable]
    places: list[dict[str, str]] = [{}]
    if processes > 1 and by_hand:
        places = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
        met = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        places = [place | met for place in places]
    words = [sys.executable] if processes == 1 else words
    return [
        subprocess.Popen(
            [*words, *command],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env={**environment, **place},
            start_new_session=True,
        )
        for place in places
    ]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def one_node_slurm(folder: Path) -> Iterator[dict[str, str]]:
    """A Slurm of this machine alone, of Debian's packages slurmctld, slurmd, slurm-client and munge; needs root.

    Gives the environment in which `srun` talks to it; an empty one where it is not installed or does not come up.
    """
    if os.getuid() != 0 or not all((DEBIAN / name).exists() for name in SLURM) or not shutil.which("srun"):
        yield {}
        return
    folder.mkdir(mode=0o755)
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o400)
    settings = CONFIGURATION.format(folder=folder, controller=free_port(), node=free_port())
    (folder / "slurm.conf").write_text(settings)
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "seed-file": "munge.seed"}
    munge = [f"--{option}={folder / name}" for option, name in files.items()]
    commands = (
        ["munged", "--force", "--foreground", *munge],
        ["slurmctld", "-D", "-c"],
        ["slurmd", "-D", "-N", "localhost"],
    )
    daemons = []
    try:
        with open(folder / "daemons.log", "w") as said:
            for program, *options in commands:
                line = [str(DEBIAN / program), *options]
                daemons.append(subprocess.Popen(line, stdout=said, stderr=said, env={**os.environ, **environment}))
                time.sleep(1)
        yield environment if _answers(environment) else {}
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()


def _answers(environment: Mapping[str, str]) -> bool:
    """Whether a command can be run, within SECONDS."""
    command = ["srun", "--quiet", f"--immediate={SECONDS}", "true"]
    try:
        return subprocess.run(command, env={**os.environ, **environment}, timeout=2 * SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False
