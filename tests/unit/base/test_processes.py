import os
import subprocess
import sys
from pathlib import Path

from calandria.base import processes
from calandria.base.processes import has_ended, machine_name, process_start


def test_a_process_has_ended_when_it_is_dead_or_its_number_is_anothers():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = process_start(child.pid)
    assert not has_ended(child.pid, started) and has_ended(child.pid, "1")
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert has_ended(child.pid, started), "although it is a zombie"
    child.communicate()
    assert process_start(child.pid) is None and has_ended(child.pid, started)


def test_a_process_that_proc_hides_lives_as_long_as_its_number_is_there(monkeypatch):
    def hidden(path, **options):
        raise FileNotFoundError(path)

    def forbidden(pid, number):
        raise PermissionError

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    monkeypatch.setattr(Path, "read_text", hidden)
    assert not has_ended(os.getpid(), "1") and has_ended(dead.pid, "1")
    monkeypatch.setattr(os, "kill", forbidden)
    assert not has_ended(1, "1"), "it is another user's"


def test_machines_of_one_name_are_told_apart_by_their_boot(tmp_path, monkeypatch):
    assert machine_name().split()[0] == processes.socket.gethostname() and processes.BOOT.read_text().strip() in machine_name()
    monkeypatch.setattr(processes, "BOOT", tmp_path / "boot_id")
    (tmp_path / "boot_id").write_text("another\n")
    assert machine_name.__wrapped__() != machine_name()
    (tmp_path / "boot_id").unlink()
    assert machine_name.__wrapped__() == machine_name().rpartition(" ")[0]
