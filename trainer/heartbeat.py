"""Noticing that another process is gone or hangs, and ending in order instead of waiting for it.

Every process counts up a number in the store that they met at. The main one watches all the others' numbers, the others watch
the main one's. A process that has died is found within seconds, since its connections break; one that hangs (stopped, its
machine or the network is gone) once it has been silent for long enough.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch.distributed as dist

BEAT = 1.0  # seconds between two signs of life
BROKEN = 5.0  # seconds of silence that are enough where a connection broke as well
GRACE = 15.0  # seconds that the main thread has to come back from what it waits for
TROUBLE = ("gloo", "connection", "nccl", "socket", "process group", "peer")
"""Words of the errors that a lost process causes in others."""

Save = Callable[[int], str]


class RankLostError(Exception):
    """Another process is gone; one sentence says which, and from where the run goes on."""


class Heartbeat:
    """This process's sign of life, and its ear for those of the others.

    Args:
        store: where all of them met.
        rank, size: its place among them.
        patience: seconds without a sign of life after which a process is taken for lost.
    """

    def __init__(self, store: dist.Store, rank: int, size: int, patience: float) -> None:
        self._base, self.rank, self.size, self.patience = store, rank, size, patience
        self._store = self._connect()
        self._count = 0
        self._watched = [other for other in range(size) if other != rank] if rank == 0 else [0]
        self._stopped, self._broken, self._known, self._awake = (threading.Event() for _ in range(4))
        self.lost = -1  # the rank of the process that is gone
        self._reason = ""
        self.save: Save | None = None
        """What to do before ending, given the rank that is gone; says from where the run goes on."""
        self._beat(self._store)
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to watch; all the others have given their first sign of life."""
        self._thread.start()

    def stop(self, fault: str = "") -> None:
        """End in order, so that nobody takes this process for lost; a fault is told to the others."""
        self._awake.set()
        self._stopped.set()
        with suppress(RuntimeError):
            if fault and not self.lost >= 0:
                self._tell(self.rank, f"stopped ({fault})")
            self._store.set(f"beat/{self.rank}", "done")
        if self.lost >= 0 and self.rank == 0:
            time.sleep(3 * BEAT)  # the store is often this process's, and the others read there who was lost
        if self._thread.ident:
            self._thread.join(3 * BEAT)

    def explain(self, error: BaseException) -> RankLostError | None:
        """What a failed exchange is due to, as soon as that is known; None if it has other reasons."""
        text = str(error).lower()
        if self.lost < 0 and not isinstance(error, dist.DistError) and not any(word in text for word in TROUBLE):
            return None
        self._broken.set()
        self._known.wait(BROKEN + 2 * GRACE)
        self._awake.set()
        return RankLostError(self.sentence())

    def sentence(self) -> str:
        """Who is gone, and from where the run goes on."""
        if self.lost < 0:
            return f"the connections between the {self.size} processes broke, although all of them are there"
        saved = self.save(self.lost) if self.save else ""
        return f"process {self.lost} of {self.size} {self._reason}{saved}"

    def _connect(self) -> dist.Store:
        store = self._base.clone()
        store.set_timeout(timedelta(seconds=10))
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun keeps the store when it starts anew
        return dist.PrefixStore(f"heartbeat {attempt}", store)

    def _beat(self, store: dist.Store) -> None:
        self._count += 1
        store.set(f"beat/{self.rank}", f"{socket.gethostname()} {self._count}")

    def _run(self) -> None:
        """Until the end: give signs of life and look for those of the others."""
        now = time.monotonic()
        heard, told = dict.fromkeys(self._watched, now), dict.fromkeys(self._watched, "")
        while self.lost < 0 and not self._stopped.wait(BEAT):
            asleep = time.monotonic() - now > BROKEN  # this process itself was stopped: it has missed what was said meanwhile
            now = time.monotonic()
            if asleep:
                heard = dict.fromkeys(self._watched, now)
            fault = self._listen(heard, told)
            broken = self._broken.is_set() or fault == "broken"
            silent = [
                other for other in self._watched if time.monotonic() - heard[other] > (BROKEN if broken else self.patience)
            ]
            if silent and not self._stopped.is_set():
                host = f"on {told[silent[0]].split()[0]} " if told[silent[0]] else ""
                seconds = time.monotonic() - heard[silent[0]]
                self._found(silent[0], f"{host}is gone (no sign of life for {seconds:.0f} s)")
        if self.lost >= 0 and not self._awake.wait(GRACE):
            self._give_up()

    def _listen(self, heard: dict[int, float], told: dict[int, str]) -> str:
        """Ask the store for news; an error is silence of the process that keeps it."""
        try:
            self._beat(self._store)
            if self._broken.is_set():
                self._store.set("broken", "1")
            if self._store.check(["lost"]):
                rank, _, reason = self._store.get("lost").decode().partition(" ")
                self._found(int(rank), reason)
            for other, news in zip(
                self._watched, self._store.multi_get([f"beat/{other}" for other in self._watched]), strict=True
            ):
                text = news.decode()
                if text != told[other] or text == "done":
                    heard[other], told[other] = time.monotonic(), text
            return "broken" if self._store.check(["broken"]) else ""
        except RuntimeError:
            with suppress(RuntimeError):
                self._store = self._connect()
            return "unreachable"

    def _found(self, rank: int, reason: str) -> None:
        self.lost, self._reason = rank, reason
        with suppress(RuntimeError):
            self._tell(rank, reason)
        self._known.set()

    def _tell(self, rank: int, reason: str) -> None:
        self._store.compare_set("lost", "", f"{rank} {reason}")

    def _give_up(self) -> None:
        """The main thread waits for a process that will not come: end without it."""
        print(f"error: {self.sentence()}", file=sys.stderr, flush=True)
        os._exit(2)


_current: Heartbeat | None = None


@contextmanager
def watching(heartbeat: Heartbeat) -> Iterator[None]:
    """The block in which the processes watch each other; what fails as one is gone is told as RankLostError."""
    global _current
    heartbeat.start()
    _current = heartbeat
    fault = ""
    try:
        yield
    except RuntimeError as error:
        fault = " ".join(str(error).split()) or type(error).__name__
        if lost := heartbeat.explain(error):
            raise lost from error
        raise
    except RankLostError:
        raise
    except BaseException as error:
        fault = " ".join(str(error).split()) or type(error).__name__
        raise
    finally:
        _current = None
        heartbeat.stop(fault)


@contextmanager
def saving_when_lost(save: Save) -> Iterator[None]:
    """Within the block, `save` is called when another process is gone, before this one ends."""
    heartbeat = _current
    if heartbeat is None:
        yield
        return
    heartbeat.save = save
    try:
        yield
    except RuntimeError as error:
        if lost := heartbeat.explain(error):
            raise lost from error
        raise
    finally:
        heartbeat.save = None
