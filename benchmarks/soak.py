"""Train for some minutes while everything goes wrong: kills, damages, a full disk, other launchers and numbers of processes.

python benchmarks/soak.py [--minutes 60] [--folder FOLDER]

A small network learns on generated images, always by the same command. A round starts it under a random launcher, ends it at a
random moment in a random way, and may damage what lies in the run folder. When a run is finished its losses are compared with
those of an undisturbed one. Survived is a round after which the run went on, or that ended with the one sentence it should; the
last lines say how many were, and the exit status is 1 if one was not.
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
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the rooms beside this one are not installed

import numpy as np
import yaml
from PIL import Image

from trainer import checkpointing

STEPS, SAVE_EVERY = 40, 4
PATIENCE = 300.0  # seconds that a round may take on a machine under load
CLOSE = 1e-5  # of losses of other numbers of processes


@dataclass
class Tally:
    """What happened, and what should not have."""

    rounds: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    damages: Counter[str] = field(default_factory=Counter)
    finished: int = 0
    difference: float = 0.0
    faults: list[str] = field(default_factory=list)


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
                {"dataset": plates, "tasks": ["segmentation"], "batch_size": 2, "transform": {"name": "lsj", "size": 32}},
            ],
        },
        "trainer": {
            "steps": STEPS,
            "log_every": 1,
            "save_every": SAVE_EVERY,
            "keep_last": 3,
            "device": "cpu",
            "learning_rate": 1e-4,
            "silence_seconds": 30,
        },
        "output": str(folder / "run"),
    }
    path = folder / "soak.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def launchers() -> dict[str, list[str]]:
    """How to start a command, for those that are installed: one process, or two."""
    beside = Path(sys.executable).parent
    found = {"one process": [sys.executable]}
    if (beside / "torchrun").exists():
        found["torchrun"] = [str(beside / "torchrun"), "--standalone", "--nproc-per-node", "2"]
    for name, options in {"mpirun": ["--allow-run-as-root", "--oversubscribe", "-n", "2"], "srun": ["-n", "2"]}.items():
        program = beside / name if (beside / name).exists() else shutil.which(name)
        if program:
            found[name] = [str(program), *options, sys.executable]
    return found


def limited(bytes_of_a_file: int) -> None:
    """No file may grow beyond: a write fails half-way, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_of_a_file, resource.RLIM_INFINITY))


def ranks(group: int) -> list[int]:
    """The processes of a round that train, by their command lines."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            trains = b"train.py" in command and b"torchrun" not in command and b"mpirun" not in command
            if trains and os.getsid(int(entry.name)) == group:
                found.append(int(entry.name))
        except (OSError, ProcessLookupError):
            continue
    return found


def finish_off(process: subprocess.Popen[str]) -> None:
    """Kill all that a round has started; it runs in a session of its own."""
    for number in [*ranks(process.pid), process.pid]:
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue


def play(name: str, command: list[str], config: Path, output: Path, end: str, rng: random.Random, tally: Tally) -> None:
    """A round: start, end in the way asked for, look at what was said and left."""
    limit = (lambda: limited(20_000)) if end == "full disk" else None
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [*command, str(ROOT / "train.py"), str(config), f"output={output}"],
            **{"stdout": said, "stderr": subprocess.STDOUT, "text": True, "env": environment},
            start_new_session=True,
            preexec_fn=limit,
        )
        until = time.monotonic() + PATIENCE
        if end in ("kill all", "kill one", "ask to stop"):
            wait_for_steps(process, output / "log.jsonl", rng.randint(0, SAVE_EVERY * 3), until)
            time.sleep(rng.uniform(0, 0.5))
            trainees = ranks(process.pid)
            if end == "kill all":
                finish_off(process)
            elif trainees:
                os.kill(rng.choice(trainees), signal.SIGKILL if end == "kill one" else signal.SIGTERM)
        try:
            status = process.wait(timeout=max(1.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            finish_off(process)
            status = process.wait()
            tally.faults.append(f"{name}, {end}: still running after {PATIENCE:.0f} s")
        finish_off(process)
        said.seek(0)
        text = said.read()
    tally.rounds[name] += 1
    tally.ends[end] += 1
    ours = [line for line in text.splitlines() if line.startswith("Traceback")]
    if ours and name != "torchrun":  # which prints its own of every child that is not 0
        tally.faults.append(f"{name}, {end}: {text[-1500:]}")
    if status == 2 and "error: " not in text:
        tally.faults.append(f"{name}, {end}: status 2 without a sentence: {text[-500:]}")
    if end == "none" and status:
        tally.faults.append(f"{name}, left alone, ended with {status}: {text[-1500:]}")


def wait_for_steps(process: subprocess.Popen[str], log: Path, steps: int, until: float) -> None:
    """Until the log has grown by so many lines."""
    before = lines(log)
    while process.poll() is None and lines(log) < before + steps and time.monotonic() < until:
        time.sleep(0.05)


def lines(log: Path) -> int:
    return len(log.read_bytes().splitlines()) if log.exists() else 0


def damage(run: Path, rng: random.Random) -> str:
    """Do something to the run folder that it must survive; says what."""
    saved = checkpointing.states(run / "checkpoints")
    choices: dict[str, Callable[[], Any]] = {"nothing": lambda: None}
    if len(saved) > 1:
        newest = saved[-1]
        content = newest.read_bytes()
        at = rng.randrange(len(content))
        choices |= {
            "newest state truncated": lambda: newest.write_bytes(content[:at]),
            "newest state flipped": lambda: newest.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]),
            "newest state deleted": newest.unlink,
            "newest state zeroed": lambda: newest.write_bytes(content[:at] + bytes(len(content) - at)),
        }
    if (run / "model.pt").exists():
        choices["network truncated"] = lambda: (run / "model.pt").write_bytes((run / "model.pt").read_bytes()[:1000])
    if (run / "log.jsonl").exists() and not (run / "model.pt").exists():  # nobody opens the log of a finished run again
        choices["log damaged"] = lambda: (run / "log.jsonl").open("ab").write(b'\x00\xff{"step"\n')
    choices["draft left"] = lambda: (run / ".model.pt.99999.part").write_bytes(b"half") if run.exists() else None
    what = rng.choice(list(choices))
    choices[what]()
    return what


def losses(run: Path) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in map(json.loads, (run / "log.jsonl").read_text().splitlines())}


def compare(run: Path, whole: dict[int, float], tally: Tally) -> None:
    """A finished run with the undisturbed one: the lines of the log that it has, and what must not lie about."""
    found = losses(run)
    differences = [abs(found[step] - whole[step]) / abs(whole[step]) for step in found]
    tally.finished += 1
    tally.difference = max([tally.difference, *differences])
    if max(differences) > CLOSE:
        tally.faults.append(f"{run}: losses differ by {max(differences):.2e}")
    if drafts := [path.name for path in run.rglob(".*.part")]:
        tally.faults.append(f"{run}: drafts are left: {drafts}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="(default: 5)")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary one)")
    parser.add_argument("--seed", type=int, default=0, help="of what goes wrong (default: 0)")
    options = parser.parse_args()
    rng, tally, start = random.Random(options.seed), Tally(), time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)) / "soak"
        config, ways = experiment(folder), launchers()
        play("one process", ways["one process"], config, folder / "whole", "none", rng, tally)
        if tally.faults:
            sys.exit("\n".join(tally.faults))
        whole, number = losses(folder / "whole"), 0
        while time.monotonic() - start < 60 * options.minutes:
            run, name = folder / f"run{number}", rng.choice(list(ways))
            end = rng.choice(["kill all", "kill all", "kill one", "ask to stop", "full disk", "none"])
            play(name, ways[name], config, run, end, rng, tally)
            if (run / "model.pt").exists() and end == "none":
                compare(run, whole, tally)
                number += 1
            else:
                tally.damages[damage(run, rng)] += 1
        if (run := folder / f"run{number}").exists():
            play("one process", ways["one process"], config, run, "none", rng, tally)
            compare(run, whole, tally)
    report = {
        "minutes": round((time.monotonic() - start) / 60, 1),
        "rounds": dict(tally.rounds),
        "ends": dict(tally.ends),
        "damages": dict(tally.damages),
        "runs finished": tally.finished,
        "largest relative difference of a loss": tally.difference,
        "faults": tally.faults,
    }
    print(json.dumps(report, indent=1))
    print(f"{sum(tally.rounds.values())} rounds, {len(tally.faults)} faults")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
