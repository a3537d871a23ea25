"""Processes of this machine: whether one still lives, and ending together with the workflow that started us."""

import contextlib
import functools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .errors import StoppedError

MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""Variables by which MPI's launchers tell each process how many there are: Open MPI, MPICH and its kin, MVAPICH."""

MPI_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK")
"""Those that tell each process which one it is."""

WORKFLOW = "CALANDRIA_WORKFLOW"
GRACE_SECONDS = 20.0
BOOT = Path("/proc/sys/kernel/random/boot_id")


@functools.cache
def machine_name() -> str:
    """Return a name that two processes share only if they can see each other's process numbers: host, its boot, namespace."""
    words = [socket.gethostname()]
    with contextlib.suppress(OSError):
        words.append(str(Path("/proc/self/ns/pid").readlink()))
    with contextlib.suppress(OSError):
        words.append(BOOT.read_text(encoding="ascii").strip())
    return " ".join(words)


def process_start(pid: int) -> str | None:
    """Return the start time of a living process (a word to compare, empty where unknown), None if it is dead or a zombie."""
    with contextlib.suppress(OSError):  # other users' processes may be hidden
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""


def has_ended(pid: int, started: str) -> bool:
    """Say whether the process of this machine that began at ``started`` has certainly ended; its number may be another's by now."""
    return process_start(pid) not in (started, "")


def name_workflow() -> None:
    """Make this process the workflow with which all programs that it starts end, however it ends."""
    os.environ[WORKFLOW] = f"{os.getpid()} {process_start(os.getpid())} {machine_name()}"


def _workflow() -> tuple[int, str] | None:
    """Return process number and start of the workflow that started us; None without one, and where a container may not see it."""
    pid, _, rest = os.environ.get(WORKFLOW, "").partition(" ")
    started, _, machine = rest.partition(" ")
    return (int(pid), started) if pid.isdigit() and machine == machine_name() else None


def workflow_has_ended() -> bool:
    """Say whether a workflow started us and is gone."""
    workflow = _workflow()
    return workflow is not None and has_ended(*workflow)


def end_with_workflow() -> None:
    """Interrupt this process when the workflow that started it is killed, so that the next run does not meet its orphans."""
    if workflow := _workflow():
        threading.Thread(target=_watch, args=workflow, daemon=True).start()


def _watch(pid: int, started: str) -> None:
    while not has_ended(pid, started):
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(GRACE_SECONDS)
    os._exit(130)


@contextlib.contextmanager
def stop_signals(numbers: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGUSR1)) -> Iterator[Callable[[], bool]]:
    """Take these signals inside the block as a request to stop at the next good moment; yield what tells whether one has come.

    SLURM sends SIGTERM before pre-emption and at a job's end, and what ``--signal`` names before the walltime.
    """
    heard: list[int] = []

    def hear(number: int, frame: object) -> None:
        heard.append(number)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end of a dying workflow must not cut short what is being saved

    former = {number: signal.signal(number, hear) for number in numbers} | {signal.SIGINT: signal.getsignal(signal.SIGINT)}
    stopped = False
    try:
        yield lambda: bool(heard)
    except StoppedError:
        stopped = True
        raise
    finally:
        # launchers send these signals to all others once the first has ended, and each shall end by its own status
        for number, handler in former.items():
            signal.signal(number, signal.SIG_IGN if stopped and number in numbers else handler)
