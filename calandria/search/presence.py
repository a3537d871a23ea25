"""A worker's signs of life: one thread that refreshes its locks, hears signals even in long steps, and notices a parent's death."""

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Self

from .locks import OwnedLock

TICK_SECONDS = 0.25
STOP_SECONDS = 8.0
"""Time that a running step has to reach its next report after a stop signal; then the process ends where it stands."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Presence:
    """Keeps locks fresh and notes stop signals while a worker is busy; a context manager.

    Signals arrive through a wake-up descriptor: Python would run a handler only after the numerical call in progress has returned.

    Parameters
    ----------
    beat_seconds
        Interval between two refreshments of the held locks.
    parent
        Process whose end is taken as a stop signal, None for none.
    on_overdue
        Called when the main thread has not ended STOP_SECONDS after the stop signal; must not return.
    """

    def __init__(self, beat_seconds: float, parent: int | None, on_overdue: Callable[[], None]) -> None:
        self.stop = threading.Event()
        self.reason = ""
        self._beat_seconds, self._parent, self._on_overdue = beat_seconds, parent, on_overdue
        self._locks: set[OwnedLock] = set()
        self._guard = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, name="presence", daemon=True)

    def __enter__(self) -> Self:
        self._ear, self._mouth = socket.socketpair()
        self._ear.setblocking(False)
        self._mouth.setblocking(False)
        self._old_handlers = {}
        self._listens = threading.current_thread() is threading.main_thread()
        if self._listens:
            self._old_handlers = {number: signal.signal(number, self._heard) for number in STOP_SIGNALS}
            self._old_descriptor = signal.set_wakeup_fd(self._mouth.fileno(), warn_on_full_buffer=False)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        if self._listens:
            signal.set_wakeup_fd(self._old_descriptor)
            for number, handler in self._old_handlers.items():
                signal.signal(number, handler)
        self._thread.join()
        self._ear.close()
        self._mouth.close()

    def _heard(self, number: int, frame: FrameType | None) -> None:
        """Do nothing; the thread acts, since the main thread may hold the event's own lock at this moment."""

    def _ask_to_stop(self, reason: str) -> None:
        if not self.stop.is_set():
            self.reason = reason
            self.stop.set()

    def keep(self, lock: OwnedLock) -> None:
        """Refresh a lock from now on."""
        with self._guard:
            self._locks.add(lock)

    def drop(self, lock: OwnedLock) -> None:
        """Refresh a lock no longer; when this returns the thread does not touch it any more."""
        with self._guard:
            self._locks.discard(lock)

    def _live(self) -> None:
        beaten, stopped = time.monotonic(), None
        while not self._ended.is_set():
            if select.select([self._ear], [], [], TICK_SECONDS)[0]:
                for number in self._ear.recv(64):
                    if number in STOP_SIGNALS:
                        self._ask_to_stop(signal.Signals(number).name)
            if self._parent is not None and os.getppid() != self._parent:
                self._ask_to_stop("the controller has ended")
            now = time.monotonic()
            if now - beaten >= self._beat_seconds:
                beaten = now
                with self._guard:
                    for lock in self._locks:
                        with suppress(OSError):  # a file server that does not answer for a while
                            lock.refresh()
            if self.stop.is_set():
                stopped = stopped or now
                if now - stopped > STOP_SECONDS and not self._ended.is_set():
                    self._on_overdue()
