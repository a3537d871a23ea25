"""How workers are started: here as processes of this machine; another launcher may submit them to a cluster."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

from .presence import STOP_SECONDS


class Launcher(Protocol):
    """Starts workers and tells how they fare."""

    def start(self, name: str) -> None:
        """Start a worker of that name."""

    def states(self) -> dict[str, int | None]:
        """Return the exit status of each worker that was started, None while it works."""

    def forget(self, name: str) -> None:
        """Leave an ended worker out of the states."""

    def stop(self) -> None:
        """Stop all workers; when this returns none is left."""

    def last_words(self, name: str) -> str:
        """Return the end of what a worker said."""


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

    def __init__(self, directory: Path, log_folder: Path, device: str, threads: int) -> None:
        self._directory, self._log_folder, self._device, self._threads = directory, log_folder, device, threads
        self._processes: dict[str, subprocess.Popen] = {}

    def start(self, name: str) -> None:
        """Start a worker; it stops by itself if this process is killed."""
        command = [sys.executable, "-m", "workflow_scripts.search.run_worker", "--directory", str(self._directory)]
        command += ["--worker-name", name, "--device", self._device, "--threads", str(self._threads)]
        command += ["--stop-with-parent", str(os.getpid())]
        with open(self._log_path(name), "ab") as log:
            self._processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

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

    def stop(self) -> None:
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

    def last_words(self, name: str) -> str:
        """Return the last lines of a worker's log."""
        try:
            text = self._log_path(name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return " | ".join(line.strip() for line in text.splitlines()[-3:])
