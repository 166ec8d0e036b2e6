"""Train for some minutes while everything goes wrong: kills, damages, a full disk, other launchers and numbers of processes.

python benchmarks/soak.py [--minutes 60] [--folder FOLDER] [--seed 0]

A small network learns on generated images, always by the same command, with engine ddp or fsdp. A round starts it in one,
two or three processes under a random launcher, ends it at a random moment in a random way, and may damage what lies in the run
folder. After each round every state that has its name must be readable, and none that was good may be gone. When a run is
finished its losses and weights are compared with those of an undisturbed one. Survived is a round after which the run went on,
or that ended with the one sentence it should; the last lines say how many were, and the exit status is 1 if one was not.

Open MPI comes with pip install '.[mpi]', MPICH with Debian's mpich (or pip install mpich elsewhere, its mpiexec.hydra in PATH),
and Slurm with slurmctld, slurmd, slurm-client and munge. As root the disk is a real one that gets full, of DISK bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the rooms beside this one are not installed

import numpy as np
import torch
import yaml
from launchers import launchers, one_node_slurm, start
from PIL import Image

from trainer import checkpointing
from xdecoder import checkpoint

STEPS, SAVE_EVERY = 40, 4
PATIENCE = 900.0  # seconds that a round may take on a machine under load
CLOSE = 1e-5  # of losses where several processes took part
DISK = 64 << 20
MARK = "XDECODER_SOAK"  # in the environment of all that a round starts, by which it is found again
ENDS = ("kill all", "kill all", "kill one", "kill one", "ask to stop", "full disk", "none")
Damage = Callable[[], Any]


@dataclass
class Tally:
    """What happened, and what should not have."""

    rounds: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    damages: Counter[str] = field(default_factory=Counter)
    finished: Counter[str] = field(default_factory=Counter)
    differences: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


@dataclass
class Run:
    """One run folder and what has befallen it."""

    folder: Path
    engine: str
    alone: bool = True  # no step was done by several processes
    lost: int = 0  # how often a single process was killed, which takes a line of the log with it

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"


def experiment(folder: Path) -> Path:
    """Twelve images of a red and a blue half, and a configuration that learns them; its path."""
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for i in range(12):
        labels = np.zeros((24, 30), dtype=np.uint8)
        labels[:, int(rng.integers(5, 25)) :] = 1
        pixels = np.where(labels[..., None] == 0, [220, 30, 30], [30, 30, 220]).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{i}.png")
    plates = {"name": "plates", "reader": "label_images", "images": "images", "labels": "labels", "classes": ["red", "blue"]}
    width = {"width": 32, "heads": 2}
    settings = {
        "model": {
            "backbone": {"name": "focal", "width": 8, "depths": [1, 1, 1, 1], "drop_path": 0.3},
            "pixel_decoder": {"name": "fpn", "layers": 1, "hidden": 16, **width},
            "decoder": {"queries": 5, "layers": 1, "hidden": 16, "joint_width": 32, **width},
            "language": {"merges": 0, "layers": 1, "output_width": 32, **width},
        },
        "tasks": {"segmentation": {"points": 32, "templates": "none"}},
        "data": {
            "root": str(folder),
            "train": [
                {"dataset": plates, "tasks": ["segmentation"], "batch_size": 6, "transform": {"name": "lsj", "size": 32}},
            ],
        },
        "trainer": {
            "steps": STEPS,
            "log_every": 1,
            "save_every": SAVE_EVERY,
            "keep_last": 3,
            "device": "cpu",
            "learning_rate": 1e-5,  # at 1e-4 the rounding of other numbers of processes grows to 1e-3 in 40 undisturbed steps
            "silence_seconds": 30,
            "rendezvous_seconds": 60,
        },
        "output": str(folder / "run"),
    }
    path = folder / "soak.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@contextmanager
def disk(folder: Path) -> Iterator[bool]:
    """The folder as a disk of DISK bytes within the block; False where that is not allowed, and it is an ordinary folder."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "soak", str(folder)]
    small = os.getuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield small
    finally:
        if small:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def marked(mark: str) -> list[int]:
    """The processes of a round that train, wherever their launcher has put them."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if not entry.name.isdigit() or f"{MARK}={mark}".encode() not in (entry / "environ").read_bytes().split(b"\0"):
                continue
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if words[0] == sys.executable.encode() and words[1:2] == [str(ROOT / "train.py").encode()]:
                found.append(int(entry.name))
    return found


class Round:
    """A training started under a launcher, to be ended."""

    def __init__(self, run: Run, name: str, launcher: list[str], count: int, config: Path, mark: str, slurm: dict[str, str]):
        self.mark, self.run, self.slurm, self.good, self.bad = mark, run, slurm, intact(run), unreadable(run)
        environment = {**os.environ, **slurm, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), MARK: mark}
        command = [str(ROOT / "train.py"), str(config), f"output={run.folder}", f"trainer.engine={run.engine}"]
        self.said = tempfile.TemporaryFile("w+b")  # noqa: SIM115 (open for as long as the round lasts)
        self.processes = start(launcher, count, command, environment, self.said.fileno())
        self.until = time.monotonic() + PATIENCE

    def ended(self) -> bool:
        return None not in [process.poll() for process in self.processes]  # all of them are asked

    def wait_for_steps(self, steps: int) -> None:
        """Until the log has grown by so many lines."""
        log = self.run.folder / "log.jsonl"
        before = lines(log)
        while not self.ended() and lines(log) < before + steps and time.monotonic() < self.until:
            time.sleep(0.05)

    def wait(self) -> int | None:
        """The highest exit status; None if it would not end."""
        while not self.ended():
            if time.monotonic() > self.until:
                return None
            time.sleep(0.1)
        return max(abs(process.returncode) for process in self.processes)

    def finish_off(self) -> None:
        """Kill all that is left of it."""
        for number in [*marked(self.mark), *(process.pid for process in self.processes)]:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        for process in self.processes:
            process.wait()
        if self.slurm:
            subprocess.run(["scancel", "--user", "root"], env={**os.environ, **self.slurm}, check=False)
        while marked(self.mark):
            time.sleep(0.05)

    def text(self) -> str:
        self.said.seek(0)
        return self.said.read().decode(errors="replace")


@contextmanager
def full(folder: Path, small: bool, rng: random.Random) -> Iterator[None]:
    """Within the block the disk has room for a few states at most; where it is an ordinary folder, no file may grow long."""
    room = rng.randrange(1 << 20)
    if not small:
        before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room // 8, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)
        return
    filler = folder / "filler"
    with open(filler, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, shutil.disk_usage(folder).free - room))
    try:
        yield
    finally:
        filler.unlink()


def play(begin: Callable[[], Round], name: str, count: int, end: str, rng: random.Random, tally: Tally) -> None:
    """A round: start, end in the way asked for, look at what was said and left."""
    round = begin()
    if end in ("kill all", "kill one", "ask to stop"):
        round.wait_for_steps(rng.randint(0, SAVE_EVERY * 3))
        time.sleep(rng.uniform(0, 0.5))
        trainees = marked(round.mark)
        if end == "kill all":
            round.finish_off()
        elif trainees:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(trainees), signal.SIGKILL if end == "kill one" else signal.SIGTERM)
    moment = time.monotonic()
    status = round.wait()
    round.finish_off()
    text, what = round.text(), f"{round.run.folder.name}, {name} x {count}, {end}"
    tally.rounds[f"{name} x {count}" if count > 1 else "one process"] += 1
    tally.ends[end] += 1
    faults = list(told_badly(text, status, end, time.monotonic() - moment))
    faults += left_badly(round)
    tally.faults += [f"{what}: {fault}; it said:\n{text[-3000:]}" for fault in faults]


def told_badly(text: str, status: int | None, end: str, seconds: float) -> Iterator[str]:
    if status is None:
        yield f"still running after {PATIENCE:.0f} s"
    if f'File "{ROOT}/train.py", line' in text or "terminate called" in text:  # torchrun prints tracebacks of its own
        yield "a traceback"
    if status == 2 and "error: " not in text:
        yield "status 2 without a sentence"
    if end == "kill one" and seconds > 90:
        yield f"the others took {seconds:.0f} s to end"
    if end == "none" and status:
        yield f"left alone, it ended with {status}"
    if end == "all states damaged" and (not status or "training states there can be used" not in text):
        yield f"not refused, it ended with {status}"


def left_badly(round: Round) -> Iterator[str]:
    """Kills must leave no state that cannot be read (nobody looks at those of a finished run), and lose none that can."""
    if bad := set(unreadable(round.run)) - set(round.bad):
        yield f"the states {sorted(bad)} cannot be read"
    if max(round.good, default=0) > max(after := intact(round.run), default=0):
        yield f"there were good states {round.good}, and now {after}"


def intact(run: Run) -> list[int]:
    """The steps of the states that can be read."""
    found = []
    for path in checkpointing.states(run.checkpoints) if run.checkpoints.exists() else []:
        with suppress(ValueError, OSError):
            if path.is_dir():
                checkpointing._check_shards(path, checkpointing.ALONE)
            found.append(checkpoint.read(path / checkpointing.PLAIN if path.is_dir() else path)["step"])
    return found


def unreadable(run: Run) -> list[int]:
    """The steps of the others."""
    saved = checkpointing.states(run.checkpoints) if run.checkpoints.exists() else []
    return sorted({checkpointing.step_of(path) for path in saved} - set(intact(run)))


def lines(log: Path) -> int:
    return len(log.read_bytes().splitlines()) if log.exists() else 0


def state_file(path: Path, rng: random.Random) -> Path:
    """The state, or one of the files of its folder."""
    return rng.choice(sorted(path.iterdir())) if path.is_dir() else path


def possible_damages(run: Run, rng: random.Random) -> dict[str, Damage]:
    """What may be done to the run folder now, and it must survive."""
    saved, model, log = checkpointing.states(run.checkpoints), run.folder / "model.pt", run.folder / "log.jsonl"
    choices: dict[str, Damage] = {"nothing": lambda: None}
    if len(saved) > 1:
        newest = saved[-1]
        victim = state_file(newest, rng)
        content = victim.read_bytes()
        at = rng.randrange(len(content))
        choices |= {
            "newest state truncated": lambda: victim.write_bytes(content[:at]),
            "newest state flipped": lambda: victim.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]),
            "newest state zeroed": lambda: victim.write_bytes(content[:at] + bytes(len(content) - at)),
            "file of newest state deleted": victim.unlink,
            "newest state deleted": lambda: shutil.rmtree(newest) if newest.is_dir() else newest.unlink(),
        }
    if model.exists():
        choices["network truncated"] = lambda: model.write_bytes(model.read_bytes()[:1000])
    if log.exists() and not model.exists():  # nobody opens the log of a finished run again
        choices["log damaged"] = lambda: log.open("ab").write(b'\x00\xff{"step"\n')
    if run.folder.exists():
        choices["draft left"] = lambda: (run.folder / ".model.pt.99999.part").write_bytes(b"half")
    return choices


def losses(run: Path) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in map(json.loads, (run / "log.jsonl").read_text().splitlines())}


def compare(run: Run, whole: Path, tally: Tally) -> None:
    """A finished run with the undisturbed one: losses, weights, and what must not lie about."""
    if not (run.folder / "model.pt").exists():
        tally.finished["none"] += 1
        tally.faults.append(f"{run.folder.name}: did not come to its end")
        return
    found, expected = losses(run.folder), losses(whole)
    difference = max(abs(found[step] - expected[step]) / abs(expected[step]) for step in found)
    ours, theirs = (checkpoint.read(folder / "model.pt")["model"] for folder in (run.folder, whole))
    same = all(torch.equal(ours[name], theirs[name]) for name in theirs)
    kind = f"{run.engine}, " + ("one process" if run.alone else "several processes")
    tally.finished[kind] += 1
    tally.differences[kind] = max(tally.differences.get(kind, 0.0), difference)
    if difference > (0 if run.alone else CLOSE) or (run.alone and not same):
        tally.faults.append(f"{run.folder.name}: losses differ by {difference:.2e}, weights are the same: {same}")
    if len(expected) - len(found) > run.lost:
        tally.faults.append(f"{run.folder.name}: the log lacks {sorted(set(expected) - set(found))}")
    if drafts := [path.name for path in run.folder.rglob(".*.part")]:
        tally.faults.append(f"{run.folder.name}: drafts are left: {drafts}")


def soak(folder: Path, minutes: float, rng: random.Random, slurm: dict[str, str], small: bool) -> Tally:
    """Rounds on runs, one after the other, for so long."""
    tally, begun, config, ways = Tally(), time.monotonic(), experiment(folder / "data"), launchers({**os.environ, **slurm})
    number = 0

    def round_of(run: Run, name: str, count: int, end: str) -> None:
        nonlocal number
        number += 1
        mark = f"{os.getpid()}.{number}"
        run.alone &= count == 1
        run.lost += end == "kill one"
        with full(folder, small, rng) if end == "full disk" else nullcontext():
            play(lambda: Round(run, name, ways[name], count, config, mark, slurm), name, count, end, rng, tally)

    def refused(run: Run, name: str, count: int) -> None:
        """A round that must not begin, since all states are damaged; then they are brought back from a copy."""
        copy = run.folder.with_name("copy")
        shutil.copytree(run.checkpoints, copy)
        for path in checkpointing.states(run.checkpoints):
            victim = max(path.iterdir(), key=lambda each: each.stat().st_size) if path.is_dir() else path
            victim.write_bytes(victim.read_bytes()[: rng.randrange(victim.stat().st_size)])
        round_of(run, name, count, "all states damaged")
        shutil.rmtree(run.checkpoints)
        copy.rename(run.checkpoints)

    whole = Run(folder / "whole", "ddp")
    round_of(whole, "by hand", 1, "none")
    while time.monotonic() - begun < 60 * minutes and not (number == 1 and tally.faults):
        run = Run(folder / f"run{sum(tally.finished.values())}", rng.choice(["ddp", "ddp", "fsdp"]))
        alone = run.engine == "ddp" and rng.random() < 0.25  # to the bit, which other numbers of processes are not
        finished = False
        while not finished:
            last = time.monotonic() - begun > 60 * minutes
            name, end = rng.choice(list(ways)), "none" if last else rng.choice(ENDS)
            count = 1 if alone else rng.choice([2, 3] if run.engine == "fsdp" else [1, 2, 2, 3])
            before = len(tally.faults)
            if rng.random() < 0.1 and checkpointing.states(run.checkpoints) and not (run.folder / "model.pt").exists():
                refused(run, name, count)
            round_of(run, name, count, end)
            finished = end == "none"
            damage = None if finished else rng.choice(list(possible_damages(run, rng).items()))
            if damage:
                damage[1]()
                tally.damages[damage[0]] += 1
            passed = time.monotonic() - begun
            then = damage[0] if damage else "compared"
            print(f"{passed:6.0f} s  {run.folder.name} {run.engine} {name} x {count}, {end}, {then}", flush=True)
            if finished:
                compare(run, whole.folder, tally)
            for fault in tally.faults[before:]:
                print(fault, flush=True)
        shutil.rmtree(run.folder)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="(default: 5)")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary one)")
    parser.add_argument("--seed", type=int, default=0, help="of what goes wrong (default: 0)")
    options = parser.parse_args()
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit("asked to stop"))  # through all that must be cleared away
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)) / "soak"
        with one_node_slurm(Path(temporary) / "slurm") as slurm, disk(folder) as small:
            tally = soak(folder, options.minutes, random.Random(options.seed), slurm, small)
    report = {
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "a real disk gets full": small,
        "rounds": dict(tally.rounds),
        "ends": dict(tally.ends),
        "damages": dict(tally.damages),
        "runs finished": dict(tally.finished),
        "largest relative difference of a loss": tally.differences,
        "faults": tally.faults,
    }
    print(json.dumps(report, indent=1))
    print(f"{sum(tally.rounds.values())} rounds, {len(tally.faults)} faults")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
