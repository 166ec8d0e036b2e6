"""A disk that forgets what was not synced: after a power cut at any moment a run's newest state can be read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer import checkpointing
from trainer.distributed import ALONE
from xdecoder.files import atomic


class Disk:
    """Watches what is synced below a folder, and lays out what a power cut would leave.

    A file keeps what it held at its last fsync. A folder keeps the names that it had at its last fsync; what no synced folder
    names is gone.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[int, bytes] = {}
        self.folders: dict[int, dict[str, int]] = {}
        self.remember(root)

    def remember(self, path: Path) -> None:
        inode = path.stat().st_ino
        if path.is_dir():
            self.folders[inode] = {each.name: each.stat().st_ino for each in path.iterdir()}
        else:
            self.files[inode] = path.read_bytes()

    def after_a_power_cut(self, target: Path) -> None:
        self._lay_out(self.root.stat().st_ino, target)

    def _lay_out(self, inode: int, target: Path) -> None:
        target.mkdir(parents=True)
        for name, inner in self.folders[inode].items():
            if inner in self.folders:
                self._lay_out(inner, target / name)
            elif inner in self.files:
                (target / name).write_bytes(self.files[inner])
            else:
                (target / name).write_bytes(b"")  # the name was synced, and nothing of what it names


def power_cuts(work: Callable[[], Any], root: Path, check: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> int:
    """Do the work, and check what would be left if the power were cut before and after each sync, rename and removal."""
    disk, cuts, inside = Disk(root), 0, [False]

    def cut() -> None:
        nonlocal cuts
        cuts += 1
        inside[0] = True
        left = root.with_name(f"left{cuts}")
        disk.after_a_power_cut(left)
        check(left)
        shutil.rmtree(left)
        inside[0] = False

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            if inside[0]:  # what the check itself does
                return function(*arguments, **settings)
            cut()
            synced = Path(os.readlink(f"/proc/self/fd/{arguments[0]}")) if name == "fsync" else None
            result = function(*arguments, **settings)
            if synced is not None and synced.is_relative_to(root):
                disk.remember(synced)
            cut()
            return result

        return call

    for name in ("fsync", "replace", "unlink"):
        monkeypatch.setattr(os, name, watched(name, getattr(os, name)))
    work()
    return cuts


def test_a_disk_that_forgets_tells_synced_files_from_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    disk = Disk(root)
    (root / "lost").write_bytes(b"new")
    disk.after_a_power_cut(tmp_path / "left")
    assert list((tmp_path / "left").iterdir()) == []
    disk.remember(root)
    disk.after_a_power_cut(tmp_path / "named")
    assert (tmp_path / "named" / "lost").read_bytes() == b""


def state(step: int) -> dict[str, Any]:
    return dict.fromkeys([*checkpointing.KEYS, *checkpointing.WHOLE]) | {"step": step, "model": {"a": torch.full((99,), step)}}


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
@pytest.mark.parametrize("sharded", [False, True])
def test_the_newest_complete_state_outlasts_a_power_cut_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sharded: bool
) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    finished = 0

    def work() -> None:
        nonlocal finished
        for step in (1, 2, 3, 4):
            if sharded:
                plain = {key: value for key, value in state(step).items() if key not in checkpointing.WHOLE}
                tensors = {"model.a": torch.full((99,), float(step))}
                checkpointing.save_shards(tensors, plain, root / "checkpoints", step, 2, ALONE)()
            else:
                checkpointing.save(state(step), root / "checkpoints", step, 2)()
            finished = step

    def check(left: Path) -> None:
        found = checkpointing.latest(left / "checkpoints") if checkpointing.states(left / "checkpoints") else None
        assert (found[1]["step"] if found else 0) >= finished, "a state that was finished is gone"

    assert power_cuts(work, root, check, monkeypatch) > 20


def test_files_are_old_or_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "disk"
    (root / "run").mkdir(parents=True)
    path, written = Path("run", "deep", "config.yaml"), [b""]

    def work() -> None:
        for content in (b"old", b"new", b"newest"):
            with atomic(root / path) as file:
                file.write(content)
            written.append(content)

    def check(left: Path) -> None:
        found = (left / path).read_bytes() if (left / path).exists() else b""
        assert found in (written[-1], (b"old", b"new", b"newest", b"")[len(written) - 1])

    assert power_cuts(work, root, check, monkeypatch) > 12
