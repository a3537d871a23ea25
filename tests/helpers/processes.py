"""Starts the processes of one training as torchrun would, without its own start-up time."""

import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
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


def start_processes(
    size: int, words: Sequence[str], folder: Path, *, started: int | None = None, more: Mapping[str, str] | None = None
) -> list[subprocess.Popen[str]]:
    """Start ``python *words`` as ``size`` processes of one group, or only the first ``started`` of them."""
    port = str(free_port())
    return [
        subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            env=environment(
                RANK=str(rank),
                WORLD_SIZE=str(size),
                LOCAL_RANK=str(rank),
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=port,
                **(more or {}),
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size if started is None else started)
    ]


def ends(processes: Sequence[subprocess.Popen[str]], timeout_s: float = 300) -> list[tuple[int, str, str]]:
    """Wait for all and return exit status, stdout and stderr of each; what is left after the time is killed and fails the test."""
    deadline, found = time.monotonic() + timeout_s, []
    try:
        for process in processes:
            out, told = process.communicate(timeout=max(deadline - time.monotonic(), 0.1))
            found.append((process.returncode, out, told))
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
    return found


def stopping_every(calls: int) -> Callable[[], bool]:
    """Return a request to stop that is made at the given call and at no other."""
    count = itertools.count(1)
    return lambda: next(count) == calls
