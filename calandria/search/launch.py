"""How workers are started: here as processes of this machine; slurm.py asks a cluster for them."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ..base.records import read_json, write_json
from .presence import STOP_SECONDS
from .study import SearchDefinition, StudyFolder


class Launcher(Protocol):
    """Starts workers and tells how they fare."""

    retry_seconds: float
    """Pause after workers died, doubled each time that more die without any progress."""

    def start(self, count: int) -> None:
        """Start so many more workers, now or when that becomes possible."""

    def states(self) -> dict[str, int | None]:
        """Return the exit status of each worker that was started, None while it works or waits."""

    def forget(self, name: str) -> None:
        """Leave an ended worker out of the states."""

    def stop(self, done: bool = False) -> None:
        """Stop all workers; when this returns none is left. ``done``: nothing is left to do, so they end by themselves."""

    def leave(self) -> None:
        """Go without workers that can do without us."""

    def last_words(self, name: str) -> str:
        """Return the end of what a worker said."""


Launch = Callable[[StudyFolder, SearchDefinition], Launcher]
"""Makes the launcher of an identified study."""


def local_processes(folder: StudyFolder, definition: SearchDefinition) -> "LocalProcesses":
    """Return the launcher of workers on this machine, which hold other GPUs than those of a former array."""
    record = folder.directory / "cluster" / "array.json"
    if record.exists():
        write_json(record, {**read_json(record), "gpus_per_worker": int(definition.device != "cpu")})
    return LocalProcesses(folder.directory, folder.log_folder, definition.device, definition.search.threads_per_worker)


def worker_options(directory: Path, device: str, threads: int) -> list[str]:
    """Return the module and the options with which Python runs a worker."""
    options = ["-m", "workflow_scripts.search.run_worker", "--directory", str(directory)]
    return [*options, "--device", device, "--threads", str(threads)]


def last_lines(path: Path) -> str:
    """Return the end of a log in one line."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return " | ".join(line.strip() for line in text.splitlines()[-3:])


class LocalProcesses:
    """Workers as child processes, each in a session of its own, so that Ctrl-C reaches them only through the controller.

    Parameters
    ----------
    directory
        The study's folder.
    log_folder
        Where each worker's output goes, one file per name.
    device
        ``cpu`` or ``cuda``.
    threads
        Threads of the numerical libraries of one worker.
    """

    retry_seconds = 0.05

    def __init__(self, directory: Path, log_folder: Path, device: str, threads: int) -> None:
        self._directory, self._log_folder, self._device, self._threads = directory, log_folder, device, threads
        self._processes: dict[str, subprocess.Popen] = {}
        self._started = 0

    def start(self, count: int) -> None:
        """Start workers; they stop by themselves if this process is killed."""
        for _ in range(count):
            self._started += 1
            name = f"worker_{self._started}"
            self._processes[name] = self._process(name)

    def _process(self, name: str) -> subprocess.Popen:
        command = [sys.executable, *worker_options(self._directory, self._device, self._threads)]
        command += ["--worker-name", name, "--stop-with-parent", str(os.getpid())]
        with open(self._log_path(name), "ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def _log_path(self, name: str) -> Path:
        return self._log_folder / f"{name}.log"

    def states(self) -> dict[str, int | None]:
        """Return the exit status of each worker, None while it works, negative if a signal killed it."""
        return {name: process.poll() for name, process in self._processes.items()}

    def forget(self, name: str) -> None:
        """Leave an ended worker out of the states."""
        del self._processes[name]

    def process_ids(self) -> dict[str, int]:
        """Return the process number of each worker that works."""
        return {name: process.pid for name, process in self._processes.items() if process.poll() is None}

    def stop(self, done: bool = False) -> None:
        """Ask all workers to stop, and kill those that have not after their time of grace."""
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        deadline = time.monotonic() + STOP_SECONDS + 4.0
        for process in self._processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def leave(self) -> None:
        """Stop them all: they are ours alone."""
        self.stop()

    def last_words(self, name: str) -> str:
        """Return the last lines of a worker's log."""
        return last_lines(self._log_path(name))
