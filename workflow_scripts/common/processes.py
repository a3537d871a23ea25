"""Processes of this machine: whether one still lives, and ending together with the workflow that started us."""

import functools
import os
import signal
import socket
import threading
import time
from pathlib import Path

WORKFLOW = "CALANDRIA_WORKFLOW"
GRACE_SECONDS = 20.0


@functools.cache
def machine_name() -> str:
    """Return a name that two processes share only if they can see each other's process numbers."""
    try:
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def process_start(pid: int) -> str | None:
    """Return the start time of a living process (a word to compare, empty where unknown), None if it is dead or a zombie."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""


def name_workflow() -> None:
    """Make this process the workflow with which all programs that it starts end, however it ends."""
    os.environ[WORKFLOW] = f"{os.getpid()} {process_start(os.getpid())} {machine_name()}"


def end_with_workflow() -> None:
    """Interrupt this process when the workflow that started it is killed, so that the next run does not meet its orphans."""
    pid, _, rest = os.environ.get(WORKFLOW, "").partition(" ")
    started, _, machine = rest.partition(" ")
    if pid.isdigit() and machine == machine_name():  # a container may not see the workflow's process
        threading.Thread(target=_watch, args=(int(pid), started), daemon=True).start()


def _watch(pid: int, started: str) -> None:
    while process_start(pid) == started:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(GRACE_SECONDS)
    os._exit(130)
