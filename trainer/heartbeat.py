"""Noticing that another process is gone or hangs, and ending in order instead of waiting for it.

Every process counts up a number in the store that they met at. The main one watches all the others' numbers, the others watch
the main one's. A process that has died is found within seconds, since its connections break; one that hangs (it was stopped,
its machine or the network is gone) is found by its silence.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
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
        environment: tells how often torchrun, which keeps the store, has started anew.
    """

    def __init__(self, store: dist.Store, rank: int, size: int, patience: float, environment: Mapping[str, str]) -> None:
        self.rank, self.size, self.patience = rank, size, patience
        store = store.clone()  # whose calls do not wait for those of the main thread
        store.set_timeout(timedelta(seconds=patience))
        self._store = dist.PrefixStore(f"heartbeat {environment.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        self._count = 0
        self._watched = [other for other in range(size) if other != rank] if rank == 0 else [0]
        self._stopped, self._broken, self._known, self._awake = (threading.Event() for _ in range(4))
        self.lost = -1  # the rank of the process that is gone
        self._reason = ""
        self.save: Save | None = None
        """What to do before ending, given the rank that is gone; says from where the run goes on."""
        self._beat()
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
        if (fault or self.lost >= 0) and self.rank == 0:
            time.sleep(2 * BEAT)  # the store is often this process's, and the others read there who is gone
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

    def _beat(self) -> None:
        self._count += 1
        self._store.set(f"beat/{self.rank}", f"{socket.gethostname()} {self._count}")

    def _run(self) -> None:
        """Until the end: give signs of life and look for those of the others."""
        now = time.monotonic()
        heard, told = dict.fromkeys(self._watched, now), dict.fromkeys(self._watched, "")
        while self.lost < 0 and not self._stopped.wait(BEAT):
            asleep = time.monotonic() - now > BROKEN  # this process itself was stopped: it has missed what was said meanwhile
            now = time.monotonic()
            if asleep:
                heard = dict.fromkeys(self._watched, now)
            try:
                broken = self._listen(heard, told)
            except RuntimeError:  # the main process keeps the store, but for torchrun's agent
                self._found(0, f"is gone (it cannot be reached for {time.monotonic() - heard.get(0, now):.0f} s)")
                break
            for other in self._watched:
                silent = time.monotonic() - heard[other]
                if self.lost < 0 and silent > (BROKEN if broken else self.patience):
                    host = f"on {told[other].split()[0]} " if told[other] else ""
                    self._found(other, f"{host}is gone (no sign of life for {silent:.0f} s)")
        if self.lost >= 0 and not self._awake.wait(GRACE):
            self._give_up()

    def _listen(self, heard: dict[int, float], told: dict[int, str]) -> bool:
        """Ask the store for news, for which `heard` and `told` are updated; whether connections broke."""
        self._beat()
        if self._broken.is_set():
            self._store.set("broken", "1")
        if self._store.check(["lost"]):
            rank, _, reason = self._store.get("lost").decode().partition(" ")
            self._found(int(rank), reason)
        news = self._store.multi_get([f"beat/{other}" for other in self._watched])
        for other, text in zip(self._watched, (each.decode() for each in news), strict=True):
            if text != told[other] or text == "done":
                heard[other], told[other] = time.monotonic(), text
        return self._store.check(["broken"])

    def _found(self, rank: int, reason: str) -> None:
        if self._stopped.is_set():
            return
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
