"""Runs of a study: one at a time, and none beside SLURM jobs that a killed run left behind.

A run locks the study's folder and writes its token there. Its SLURM jobs carry the folder's word in their names and the token
in their environment. A run that follows a killed one cancels what still waits in the queue, waits for what is at work, and only
then plans; a job of an older run that starts later all the same finds another token and ends before it writes anything.
"""

import atexit
import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import IO, Any

from ..base.errors import CalandriaError, DeviceError, InputFileError
from ..base.files import knows_locks, lock_folder

TOKEN = "CALANDRIA_RUN"
LIFE_SECONDS = 10.0
WATCH_SECONDS = 45.0
"""A lock that flock does not guard is watched for so long: that of another machine, and any where the file system has no flock."""
PROGRAMS_SECONDS = 60.0
QUEUE_SECONDS = 5.0
QUEUE_PATIENCE_SECONDS = 600.0
TELL_SECONDS = 300.0
SLURM_PROGRAMS = ("sbatch", "squeue", "scancel", "srun")
HELD = frozenset(("REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"))
ENDED = frozenset(
    "COMPLETED CANCELLED FAILED TIMEOUT NODE_FAIL PREEMPTED BOOT_FAIL DEADLINE OUT_OF_MEMORY REVOKED".split()  # noqa: SIM905
)


class Run:
    """What a Snakemake process knows of the run that it is.

    Attributes
    ----------
    started
        Time at which the run took over its folder, by the clock of the file system; None before.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.started: float | None = None
        self._lock: IO[str] | None = None

    def take_over(self, *, slurm: bool) -> None:
        """Lock the study's folder and end what is left of a killed run.

        Parameters
        ----------
        slurm
            Whether this run submits to SLURM; then a queue that does not answer is an error. Without it the queue is asked where
            there is one, for the killed run may have used it.

        Raises
        ------
        InputFileError
            Another run is at work there.
        DeviceError
            SLURM does not answer.
        """
        path, token = Path(self.folder) / ".lock", uuid.uuid4().hex
        _watch_unlocked(path)
        self._lock = lock_folder(self.folder, token)
        self.started = os.fstat(self._lock.fileno()).st_mtime
        os.environ[TOKEN] = token
        threading.Thread(target=_show_life, args=(self._lock,), daemon=True).start()
        try:
            for killed in path.read_text(encoding="utf-8").splitlines()[2:]:
                _await_programs(killed)
        except BaseException:  # Ctrl-C, too: the file tells the next run whom to wait for
            self._lock.close()
            self._lock = None
            raise
        atexit.register(self.end)
        if slurm or shutil.which("squeue"):
            end_older_jobs(folder_word(self.folder), must_answer=slurm)

    def end(self) -> None:
        """Give the folder back; the empty file tells that nobody was killed."""
        if self._lock is not None:
            self._lock.truncate(0)
            self._lock.close()
            self._lock = None


def guard_runs(workflow: Any, folder: str) -> Run:
    """Make a Snakemake workflow take its study's folder over before it plans, and its jobs check that they belong to the present run.

    Parameters
    ----------
    workflow
        Snakemake's workflow object, while its Snakefile is read.
    folder
        The study's folder of results.

    Returns
    -------
    Run
        Begins when Snakemake begins to execute; dry runs, reports and the like never begin.
    """
    run = Run(folder)
    if not workflow.is_main_process:
        with _two_lines():
            check_token(folder)
        return run
    execute = workflow.execute

    def guarded(*, executor_plugin: Any, executor_settings: Any, **others: Any) -> Any:
        if not executor_plugin.common_settings.dryrun_exec:
            slurm = hasattr(executor_settings, "jobname_prefix")
            with _two_lines():
                if slurm:
                    require_slurm()
                    executor_settings.jobname_prefix = "_".join(
                        filter(None, [executor_settings.jobname_prefix, folder_word(folder)])
                    )
                run.take_over(slurm=slurm)
        return execute(executor_plugin=executor_plugin, executor_settings=executor_settings, **others)

    workflow.execute = guarded
    return run


@contextlib.contextmanager
def _two_lines() -> Any:
    """End the process with the two lines of an error; Snakemake would add a traceback."""
    try:
        yield
    except CalandriaError as error:
        sys.exit(f"error: {error.message}\nhint: {error.hint}")


def require_slurm() -> None:
    """Raise DeviceError where SLURM's programs are not there."""
    missing = [name for name in SLURM_PROGRAMS if shutil.which(name) is None]
    if missing:
        raise DeviceError(
            f"jobs are to be submitted to SLURM, but {', '.join(missing)} cannot be found",
            hint="start on a login node of the cluster (perhaps after `module load slurm`); without SLURM: snakemake --cores 2",
        )


def folder_word(folder: str | os.PathLike) -> str:
    """Return the word by which names of SLURM jobs tell the study's folder."""
    return f"calandria-{hashlib.sha256(os.fsencode(Path(folder).resolve())).hexdigest()[:12]}"


def check_token(folder: str | os.PathLike) -> None:
    """Raise InputFileError in a job whose run is not the one that holds the study's folder."""
    token = os.environ.get(TOKEN)
    path = Path(folder) / ".lock"
    if token is not None and token not in (path.read_text(encoding="utf-8").splitlines()[1:2] if path.exists() else []):
        raise InputFileError(
            f"this job belongs to a run of {str(folder)!r} that has ended; it writes nothing",
            hint="give the command of the run again; it submits what is missing",
        )


def _watch_unlocked(path: Path) -> None:
    """Raise InputFileError when a run shows life that flock may not exclude: it is on another machine, or there is no flock."""
    try:
        holder = path.read_text(encoding="utf-8").partition("\n")[0]
        seen = path.stat().st_mtime_ns
    except FileNotFoundError:
        return
    if not holder or (holder.endswith(f" on {socket.gethostname()}") and knows_locks(path)):
        return
    deadline = time.monotonic() + WATCH_SECONDS
    while time.monotonic() < deadline:
        time.sleep(min(1.0, LIFE_SECONDS))
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime_ns != seen:
                raise InputFileError(
                    f"folder {str(path.parent)!r} is being worked on by {holder}",
                    hint="wait until that run ends, or stop it; then start again",
                )


def _await_programs(token: str) -> None:
    """Wait for programs of a killed run on this machine, which end by themselves; raises InputFileError where they do not.

    Those in other SLURM jobs than our own are none of them: workers of arrays belong to their search, which goes on.
    """
    deadline = time.monotonic() + PROGRAMS_SECONDS
    while left := [pid for pid in _processes() if _belongs(pid, token)]:
        if time.monotonic() > deadline:
            raise InputFileError(
                f"programs of a killed run of this study are at work: processes {' '.join(map(str, left))}",
                hint="wait until they end, or kill them; then start again",
            )
        time.sleep(0.2)


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _belongs(pid: int, token: str) -> bool:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    jobs = [os.fsdecode(word).partition("=")[2] for word in variables if word.startswith(b"SLURM_JOB_ID=")]
    return f"{TOKEN}={token}".encode() in variables and jobs in ([], [os.environ.get("SLURM_JOB_ID")])


def _show_life(lock: IO[str]) -> None:
    while not lock.closed:
        time.sleep(LIFE_SECONDS)
        with contextlib.suppress(OSError, ValueError):
            os.utime(lock.fileno())


def end_older_jobs(word: str, *, must_answer: bool) -> None:
    """Cancel waiting SLURM jobs of a folder, and wait for those that are at work.

    Raises DeviceError when SLURM does not answer for long although it must.
    """
    told, told_at = 0, 0.0
    while jobs := _jobs(word, QUEUE_PATIENCE_SECONDS if must_answer else 0.0):
        waiting = [number for number, state in jobs.items() if state == "PENDING"]
        held = [number for number, state in jobs.items() if state in HELD]
        if waiting:  # only if it waits still
            _slurm("scancel", "--state=PENDING", *waiting)
        if held:
            _slurm("scancel", *held)
        working = sorted(set(jobs) - {*waiting, *held})
        if working and (len(working) != told or time.monotonic() - told_at > TELL_SECONDS):
            told, told_at = len(working), time.monotonic()
            sys.stderr.write(
                f"waiting for {len(working)} SLURM jobs of an earlier run of this study that are at work: {' '.join(working)}\n"
                "their results are kept; to make them anew instead, cancel them by scancel\n"
            )
        time.sleep(QUEUE_SECONDS if working else 0.5)


def _jobs(word: str, patience_s: float) -> dict[str, str]:
    """Return number -> state of the SLURM jobs that have not ended and whose names tell a folder."""
    deadline = time.monotonic() + patience_s
    while (answer := _slurm("squeue", "--noheader", "--user", str(os.getuid()), "--format", "%i %T %j")).returncode != 0:
        if patience_s == 0.0:
            return {}
        if time.monotonic() > deadline:
            raise DeviceError(
                f"squeue does not answer ({answer.stderr.strip()}), so jobs of an earlier run may be at work",
                hint="give the same command again when `squeue` answers",
            )
        time.sleep(QUEUE_SECONDS)
    rows = [line.split(maxsplit=2) for line in answer.stdout.splitlines()]
    return {row[0]: row[1] for row in rows if len(row) == 3 and f"{word}_" in row[2] and row[1] not in ENDED}


def _slurm(*command: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))
