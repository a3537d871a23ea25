"""Locks and leases as small files with an owner, for processes on one or several machines that may die while they hold one."""

import json
import math
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..base.processes import has_ended, machine_name, process_start

ASK_SECONDS = 0.25
BREAKING_SECONDS = 30.0
"""A guard that somebody left who died while removing a dead owner's lock is swept away after this time."""


@dataclass(frozen=True)
class Owner:
    """Who holds a lock since when (s since 1970): machine, process, its start (process numbers are reused), a token per acquisition."""

    machine: str
    pid: int
    started: str
    token: str
    name: str = ""
    since: float = 0.0

    @classmethod
    def me(cls, name: str = "") -> Self:
        """Return this process as a new owner."""
        return cls(machine_name(), os.getpid(), process_start(os.getpid()) or "", uuid.uuid4().hex, name, round(time.time(), 1))

    @classmethod
    def parsed(cls, text: str) -> Self | None:
        """Return the owner that a lock file names, None if it names none."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    def is_dead(self) -> bool:
        """Say whether the owner has certainly ended; of another machine's processes this is never certain."""
        return self.machine == machine_name() and has_ended(self.pid, self.started)


class OwnedLock:
    """A lock file that tells its owner, made with O_CREAT | O_EXCL (safe on NFSv3 and later).

    An owner that died on this machine loses the lock at once; any other loses it when the file has not been refreshed for
    ``stale_seconds`` while we watched (by our own clock, so clocks of machines need not agree). A gap between two looks counts for
    half of that at most: a file server that does not answer for a while silences owners and keeps us from looking. Optuna's own
    JournalFileOpenLock knows no owner: after a kill all wait for 30 s, and two waiters may both remove "the" stale lock, the second
    one a fresh one. The file protocol is the same, so that Optuna's own tools respect this lock.

    Parameters
    ----------
    path
        The lock file.
    stale_seconds
        Time without a sign of life, in seconds, after which an owner that cannot be asked counts as dead.
    name
        A word for people who read the file, e.g. the worker's name.
    """

    def __init__(self, path: str | os.PathLike, stale_seconds: float, name: str = "") -> None:
        self.path, self.stale_seconds, self.name = Path(path), stale_seconds, name
        self.broke_owner = False
        self._mine = ""
        self._seen: tuple[str, int] | None = None
        self._first_seen: tuple[str, int] | None = None
        self._looked = self._silent_s = 0.0

    def _read(self) -> tuple[str, int] | None:
        try:
            with open(self.path, encoding="utf-8", errors="replace") as stream:
                return stream.read(), os.fstat(stream.fileno()).st_mtime_ns
        except FileNotFoundError:
            return None

    def _create(self) -> bool:
        try:
            handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        text = json.dumps(Owner.me(self.name).__dict__)
        try:
            os.write(handle, text.encode())
        except OSError:  # a full disk: leave no lock without an owner
            self.path.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)
        self._mine = text
        return True

    def owner(self) -> Owner | None:
        """Return who holds the lock, as far as the file tells."""
        found = self._read()
        return Owner.parsed(found[0]) if found else None

    def shows_life(self) -> bool:
        """Say whether an owner certainly lives: it runs on this machine, or has given a sign of life since we first looked."""
        found = self._read()
        if found is None:
            return False
        owner = Owner.parsed(found[0])
        if owner is not None and owner.machine == machine_name():
            return not owner.is_dead()
        self._first_seen = self._first_seen or found
        return found != self._first_seen

    def is_mine(self) -> bool:
        """Say whether the file still carries our token; a stalled owner may have lost it."""
        found = self._read()
        return bool(self._mine) and found is not None and found[0] == self._mine

    def is_held(self) -> bool:
        """Say whether a living owner holds the lock; without a known sign of death it counts as living."""
        found = self._read()
        return found is not None and not self._is_stale(found)

    def _is_stale(self, found: tuple[str, int]) -> bool:
        owner = Owner.parsed(found[0])
        if owner is not None and owner.is_dead():
            return True
        now = time.monotonic()
        gap = min(now - self._looked, self.stale_seconds / 2)
        self._silent_s = self._silent_s + gap if found == self._seen else 0.0
        self._seen, self._looked = found, now
        return self._silent_s >= self.stale_seconds

    def try_acquire(self) -> bool:
        """Take the lock if it is free or its owner dead; ``broke_owner`` tells which of the two it was."""
        self.broke_owner = False
        if self._create():
            return True
        found = self._read()
        if found is not None and self._is_stale(found) and self._break(found):
            self.broke_owner = self._create()
            return self.broke_owner
        return False

    def _break(self, stale: tuple[str, int]) -> bool:
        # One breaker at a time: else a second one could remove the lock that the first has just taken.
        guard = self.path.with_name(self.path.name + ".break")
        try:
            os.close(os.open(guard, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            with suppress(FileNotFoundError):
                if time.time() - guard.stat().st_mtime > BREAKING_SECONDS:
                    guard.unlink()
            return False
        try:
            if self._read() != stale:
                return False
            self.path.unlink(missing_ok=True)
            return True
        finally:
            guard.unlink(missing_ok=True)

    def acquire(self, meanwhile: Callable[[], object] | None = None) -> bool:
        """Wait until the lock is ours; whether its owner lives is asked now and then only, for many may wait.

        ``meanwhile`` is called before, and now and then while we wait: what need not be done under the lock.
        """
        if meanwhile is not None:
            meanwhile()
        pause, asked = 0.001, -math.inf
        while not self._create():
            if time.monotonic() - asked > ASK_SECONDS:
                if meanwhile is not None and asked > 0:
                    meanwhile()
                asked = time.monotonic()
                if self.try_acquire():
                    break
            time.sleep(pause * (0.5 + random.random()))
            pause = min(2 * pause, 0.1)
        return True

    def refresh(self) -> bool:
        """Give a sign of life; False if the lock is not ours any more."""
        if not self.is_mine():
            return False
        with suppress(FileNotFoundError):
            os.utime(self.path)
            return True
        return False

    def release(self) -> bool:
        """Give the lock back; False if it was not ours any more."""
        was_mine = self.is_mine()
        if was_mine:
            self.path.unlink(missing_ok=True)
        self._mine = ""
        return was_mine

    @contextmanager
    def held(self, meanwhile: Callable[[], object] | None = None) -> Iterator[Self]:
        """Hold the lock for a block; ``meanwhile`` as in :meth:`acquire`."""
        self.acquire(meanwhile)
        try:
            yield self
        finally:
            self.release()
