import json
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from optuna.storages.journal import JournalFileOpenLock

from calandria.base import processes
from calandria.search import locks
from calandria.search.locks import OwnedLock, Owner

HOLDER = """
import sys, time
from calandria.search.locks import OwnedLock
OwnedLock(sys.argv[1], 60).acquire()
print("held", flush=True)
time.sleep(60)
"""


def left_by(path, **changes):
    path.write_text(json.dumps({**Owner.me("ghost").__dict__, **changes}))


def test_a_lock_has_one_holder(tmp_path):
    one, two = OwnedLock(tmp_path / "a", 60, "one"), OwnedLock(tmp_path / "a", 60, "two")
    assert one.try_acquire() and one.is_mine() and not one.broke_owner
    assert not two.try_acquire() and not two.is_mine() and two.is_held()
    assert two.owner().name == "one" and two.owner().pid == os.getpid()
    one.release()
    assert two.try_acquire() and not two.broke_owner


def test_a_killed_holder_loses_the_lock_at_once_even_as_a_zombie(tmp_path):
    path = tmp_path / "a"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    lock = OwnedLock(path, 60)
    assert not lock.try_acquire()
    holder.kill()
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet reaped
    assert lock.try_acquire() and lock.broke_owner
    holder.wait()
    holder.stdout.close()


def test_a_reused_process_number_is_not_the_owner(tmp_path):
    left_by(tmp_path / "a", started="1")
    assert OwnedLock(tmp_path / "a", 60).try_acquire()


def test_an_owner_elsewhere_is_stale_only_after_silence(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(locks, "time", SimpleNamespace(monotonic=lambda: now, time=time.time))
    left_by(tmp_path / "a", machine="elsewhere")
    lock = OwnedLock(tmp_path / "a", 120)
    assert not lock.try_acquire()
    now += 59
    assert not lock.try_acquire()
    os.utime(tmp_path / "a", (1, 1))  # a sign of life
    now += 59
    assert not lock.try_acquire()
    now += 59
    lock.is_held()
    now += 59
    assert not lock.try_acquire(), "silent for 118 s since that sign was seen"
    now += 3
    assert lock.try_acquire() and lock.broke_owner


def test_a_pause_of_the_file_server_is_no_silence(tmp_path, monkeypatch):
    """Owner and observer hang together; the observer is the first that goes on, and again a minute later."""
    clock = SimpleNamespace(monotonic=lambda: now, time=time.time)
    monkeypatch.setattr(locks, "time", clock)
    left_by(tmp_path / "a", machine="elsewhere")
    lock, now, beat = OwnedLock(tmp_path / "a", 120), 1000.0, 1
    assert not lock.try_acquire()
    for pause in (400.0, 3600.0):
        now += pause
        assert not lock.try_acquire(), "nobody can have given a sign of life"
        now += 5
        assert not lock.try_acquire() and lock.is_held()
        os.utime(tmp_path / "a", (beat, beat))  # the owner goes on as well
        now, beat = now + 5, beat + 1
        assert not lock.try_acquire()
    for _ in range(2):
        now += 70
        found = lock.try_acquire()
    assert found and lock.broke_owner


def test_a_process_that_may_not_be_looked_at_is_not_dead(tmp_path, monkeypatch):
    left_by(tmp_path / "a", started="1")
    monkeypatch.setattr(processes, "process_start", lambda pid: "")
    assert not OwnedLock(tmp_path / "a", 60).try_acquire()
    monkeypatch.setattr(processes, "process_start", lambda pid: None)
    assert OwnedLock(tmp_path / "a", 60).try_acquire()


def test_the_lock_of_optuna_is_respected_and_respects_ours(tmp_path):
    theirs, ours = JournalFileOpenLock(str(tmp_path / "journal")), OwnedLock(tmp_path / "journal.lock", 0.05)
    theirs.acquire()
    assert not ours.try_acquire()
    theirs.release()
    assert ours.try_acquire()
    with pytest.raises(FileExistsError):  # the call by which theirs would take it
        os.open(theirs._lock_file, os.O_CREAT | os.O_EXCL | os.O_WRONLY)


def test_optunas_own_lock_waits_the_grace_period_for_a_dead_holder_and_ours_does_not(tmp_path):
    left_by(tmp_path / "journal.lock", started="1")
    theirs = JournalFileOpenLock(str(tmp_path / "journal"), grace_period=30)
    waiter = threading.Thread(target=theirs.acquire, daemon=True)
    waiter.start()
    waiter.join(0.1)
    assert waiter.is_alive()
    assert OwnedLock(tmp_path / "journal.lock", 30).try_acquire()
    (tmp_path / "journal.lock").unlink()
    waiter.join(5)
    assert not waiter.is_alive()


def test_a_lost_lock_is_noticed_and_not_removed(tmp_path):
    stalled, other = OwnedLock(tmp_path / "a", 60), OwnedLock(tmp_path / "a", 60)
    stalled.acquire()
    (tmp_path / "a").unlink()
    other.acquire()
    assert not stalled.refresh()
    assert not stalled.release()
    assert other.is_mine() and other.refresh()


def test_of_many_breakers_one_wins(tmp_path):
    for turn in range(20):
        path = tmp_path / f"lock_{turn}"
        left_by(path, started="1")
        contenders, won, gate = [OwnedLock(path, 60) for _ in range(6)], [], threading.Barrier(6)

        def contend(lock, won=won, gate=gate):
            gate.wait()
            for _ in range(20):
                if lock.try_acquire():
                    won.append(lock)
                    return

        threads = [threading.Thread(target=contend, args=(lock,)) for lock in contenders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1 and won[0].is_mine()


def test_a_guard_left_by_a_dead_breaker_is_swept(tmp_path):
    left_by(tmp_path / "a", started="1")
    guard = tmp_path / "a.break"
    guard.touch()
    lock = OwnedLock(tmp_path / "a", 60)
    assert not lock.try_acquire()
    old = time.time() - 2 * locks.BREAKING_SECONDS
    os.utime(guard, (old, old))
    assert not lock.try_acquire() and not guard.exists()
    assert lock.try_acquire()
