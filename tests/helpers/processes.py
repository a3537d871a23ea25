"""Starts the processes of one training as torchrun would, without its own start-up time."""

import contextlib
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "GROUP_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "CALANDRIA_WORKFLOW")


def environment(**more: str) -> dict[str, str]:
    """Return this environment without any launcher's words and with ``more``."""
    kept = {name: word for name, word in os.environ.items() if not name.startswith(("SLURM_", "PMI_")) and name not in LAUNCHERS}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"} | more


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def processes_of(
    size: int, words: Sequence[str], folder: Path, *, started: int | None = None
) -> Iterator[list[subprocess.Popen[str]]]:
    """Start ``python *words`` as ``size`` processes of one group, or only the first ``started`` of them; none outlives the block."""
    port, processes = str(free_port()), []
    try:
        for rank in range(size if started is None else started):
            place = {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
            more = environment(**place, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
            processes.append(
                subprocess.Popen(
                    [sys.executable, *words], cwd=folder, env=more, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
            )
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


def ends(processes: Sequence[subprocess.Popen[str]], timeout_s: float = 300) -> list[tuple[int, str, str]]:
    """Wait for all and return exit status, stdout and stderr of each."""
    told = [process.communicate(timeout=timeout_s) for process in processes]
    return [(process.returncode, out, err) for process, (out, err) in zip(processes, told, strict=True)]


def stopping_every(calls: int) -> Callable[[], bool]:
    """Return a request to stop that is made at the given call and at no other."""
    count = itertools.count(1)
    return lambda: next(count) == calls
